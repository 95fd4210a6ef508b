"""What rounded weights add on the average is taken off the bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxpress.model import Model, load
from onnxpress.passes.quantize_static import QuantizeStatic
from onnxpress.recipe import Facts, PerChannel, Ranges
from onnxpress.settings import Settings
from onnxpress.values import constant, is_op, name_of
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.schemes import Scheme
from onnxpress.verbs.sensitivity import Damage
from zoo.digits import Digits
from zoo.graphs import Array, answers, parse

RNG = np.random.default_rng(0)
PLAIN, CORRECTED = QuantizeStatic(weight_bits=5), QuantizeStatic(weight_bits=5, correct_bias=True)
IMAGE = "(float[n,6,7,7] x) => (float[n,4,5,5] y)"
ROWS = "(float[n,6] x) => (float[n,4] y)"
TEXTS = "(float[n,5,6] x) => (float[n,5,4] y)"
GRAPHS = {
    "conv": (IMAGE, "y = Conv(x, w, b)"),
    "conv without bias": (IMAGE, "y = Conv(x, w)"),
    "groups": (IMAGE, "y = Conv<group=2>(x, wg, b)"),
    "gemm": (ROWS, "y = Gemm(x, m, b)"),
    "gemm without bias": (ROWS, "y = Gemm(x, m)"),
    "gemm turned": (ROWS, "y = Gemm<transB=1>(x, t, b)"),
    "matmul and add": (ROWS, "a = MatMul(x, m) y = Add(a, b)"),
    "matmul of texts": (TEXTS, "a = MatMul(x, m) y = Add(b, a)"),
}
UNCORRECTED = {
    "nothing is added": (ROWS, "y = MatMul(x, m)"),
    "what is added is computed": (ROWS, "a = MatMul(x, m) f = Neg(b) y = Add(a, f)"),
    "one number for all": (ROWS, "a = MatMul(x, m) y = Add(a, one)"),
    "the product is read twice": (ROWS, "a = MatMul(x, m) c = Add(a, b) y = Mul(a, c)"),
    "the product is an output": (
        "(float[n,6] x) => (float[n,4] y, float[n,4] a)",
        "a = MatMul(x, m) y = Add(a, b)",
    ),
}


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "w": normal(4, 6, 3, 3),
    "wg": normal(4, 3, 3, 3),
    "m": normal(6, 4),
    "t": normal(4, 6),
    "v": normal(6, 4),
    "b": normal(4),
    "one": np.float32([1]),
}


def graph(header: str, text: str) -> Model:
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {name: array for name, array in CONSTANTS.items() if name in words}
    return parse(f"{header} {{ {text} }}", **used)


def positive(model: Model, count: int = 200) -> Array:
    """As behind a ReLU: the means are far from 0."""
    (spec,) = model.signature.inputs
    shape = [int(size) for size in spec.shape[1:]]
    return (np.abs(normal(count, *shape)) + 1).astype(np.float32)


def mean_error(step: QuantizeStatic, model: Model, x: Array) -> Array:
    """Of each output channel: of axis 1 of images, else of the last."""
    quantized, change = step.apply(model, gather(step, model, lambda: [{"x": x[:9]}, {"x": x[9:]}]))
    assert change.rewrites
    assert not change.reasons
    (expected,), (got,) = answers(model, {"x": x}), answers(quantized, {"x": x})
    channel = 1 if got.ndim == 4 else got.ndim - 1
    others = tuple(axis for axis in range(got.ndim) if axis != channel)
    return np.asarray((got - expected).mean(axis=others))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_mean_of_every_output_is_right_again(name: str) -> None:
    model = graph(*GRAPHS[name])
    x = positive(model)
    plain, corrected = mean_error(PLAIN, model, x), mean_error(CORRECTED, model, x)
    assert np.abs(corrected).max() < 0.1 * np.abs(plain).max()


def test_the_bias_by_hand() -> None:
    """Weights 1 and 0.3 in 2 bits (−1, 0, 1) are 1 and 0; x is 2 and 5 on the average."""
    model = parse("(float[n,2] x) => (float[n,1] y) { y = Gemm(x, w) }", w=np.float32([[1], [0.3]]))
    step = QuantizeStatic(weight_bits=2, correct_bias=True)
    x = np.float32([[1, 4], [3, 6]])
    quantized, _ = step.apply(model, gather(step, model, lambda: [{"x": x}]))
    (y,) = answers(quantized, {"x": x})
    np.testing.assert_allclose(y[:, 0], [1 + 1.5, 3 + 1.5], atol=0.05)


def both(model: Model, feeds: dict[str, Array]) -> tuple[list[Array], list[Array]]:
    """The answers of the model without the correction and with it."""
    plain, corrected = (
        answers(step.apply(model, gather(step, model, lambda: [feeds]))[0], feeds)
        for step in (PLAIN, CORRECTED)
    )
    return plain, corrected


@pytest.mark.parametrize("name", UNCORRECTED)
def test_a_product_stays_where_no_constant_is_added_to_it_alone(name: str) -> None:
    model = graph(*UNCORRECTED[name])
    for one, other in zip(*both(model, {"x": positive(model)}), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shared_constant_is_corrected_for_each_of_its_readers() -> None:
    header = "(float[n,6] x) => (float[n,4] y, float[n,4] z, float[4] e)"
    model = graph(
        header, "a = MatMul(x, m) y = Add(a, b) c = MatMul(x, v) z = Add(c, b) e = Exp(b)"
    )
    feeds = {"x": positive(model)}
    expected, (plain, corrected) = answers(model, feeds), both(model, feeds)
    for index in (0, 1):
        before = np.abs((plain[index] - expected[index]).mean(axis=0)).max()
        assert np.abs((corrected[index] - expected[index]).mean(axis=0)).max() < 0.1 * before
    np.testing.assert_array_equal(corrected[2], expected[2])


@pytest.mark.parametrize("name", ["a", "y"])
def test_what_is_excluded_keeps_its_constant(name: str) -> None:
    """``a`` is the product, ``y`` the sum; the other product is corrected all the same."""
    model = graph(
        "(float[n,6] x) => (float[n,4] y, float[n,4] z)",
        "a = MatMul(x, m) y = Add(a, b) c = MatMul(x, v) z = Add(c, b)",
    )
    feeds = {"x": positive(model)}
    step = replace(CORRECTED, exclude=(name,))
    quantized, _ = step.apply(model, gather(step, model, lambda: [feeds]))
    added = {
        name_of(node): str(node.inputs[1].name)
        for node in quantized.ir.graph
        if is_op(node, "Add") and node.inputs[1] is not None
    }
    assert added["y"] == "b"
    assert added["z"] != "b"
    np.testing.assert_array_equal(constant(quantized.ir.graph.initializers["b"]), CONSTANTS["b"])
    if name == "a":
        np.testing.assert_array_equal(answers(quantized, feeds)[0], answers(model, feeds)[0])


def test_it_is_a_fact_that_is_asked_for() -> None:
    assert PLAIN.needs() == (Ranges(),)
    assert CORRECTED.needs() == (Ranges(), PerChannel())
    model = graph(*GRAPHS["conv"])
    x = positive(model)
    facts = gather(PLAIN, model, lambda: [{"x": x}])
    assert not facts.moments
    quantized, _ = CORRECTED.apply(model, Facts(facts.ranges))
    plain, _ = PLAIN.apply(model, facts)
    (one,), (other,) = answers(quantized, {"x": x}), answers(plain, {"x": x})
    np.testing.assert_array_equal(one, other)


def test_a_computed_bias_stays() -> None:
    header = "(float[n,6,7,7] x, float[4] given) => (float[n,4,5,5] y)"
    model = graph(header, "y = Conv(x, w, given)")
    feeds = {"x": positive(graph(IMAGE, "y = Conv(x, w)")), "given": normal(4)}
    (plain,), (corrected,) = both(model, feeds)
    np.testing.assert_array_equal(plain, corrected)


def test_a_trained_network_suffers_less_on_images_that_were_not_seen(digits: Digits) -> None:
    model, _ = Scheme("static").prepared(load(digits.onnx))
    with np.load(digits.samples) as data:
        seen, other = data["image"][:60], data["image"][200:]
    damage = Damage(model, lambda: [{"image": other}], Settings("onnxruntime", threads=1))
    plain, corrected = (
        damage(step.apply(model, gather(step, model, lambda: [{"image": seen}]))[0])
        for step in (PLAIN, CORRECTED)
    )
    assert corrected < 0.7 * plain
