"""Ranges of channels move between layers: the same answers in float, better ones in int8."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.equalize_layers import EqualizeLayers
from onnxpress.recipe import Change, Facts, Recipe
from onnxpress.verbs.calibrate import Gatherer, applied, gather
from zoo.graphs import Array, answers, difference, parse, serialized

RNG = np.random.default_rng(0)
WIDTH = 8
SPREAD = np.array([1000, 300, 100, 30, 10, 3, 1, 0.3], np.float32)
"""What channels are multiplied by, and divided by where they are read."""
IMAGE = "(float[n,3,9,9] x) => (float[n,5,7,7] y)"
PAIRS = {
    "nothing": (IMAGE, "c = Conv(x, w, b)  y = Conv(c, v)"),
    "relu": (IMAGE, "c = Conv(x, w, b)  r = Relu(c)  y = Conv(r, v, d)"),
    "no bias": (IMAGE, "c = Conv(x, w)  r = Relu(c)  y = Conv(r, v)"),
    "leaky": (IMAGE, "c = Conv(x, w, b)  r = LeakyRelu<alpha=0.2>(c)  y = Conv(r, v, d)"),
    "prelu": (IMAGE, "c = Conv(x, w, b)  r = PRelu(c, slope)  y = Conv(r, v, d)"),
    "clip that is a relu": (IMAGE, "c = Conv(x, w, b)  r = Clip(c, zero)  y = Conv(r, v, d)"),
    "padded": (IMAGE, "c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  y = Conv(r, v3, d)"),
    "max pool": (
        "(float[n,3,16,16] x) => (float[n,5,7,7] y)",
        "c = Conv(x, w, b)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)  y = Conv(p, v, d)",
    ),
    "pooled and flat": (
        "(float[n,3,9,9] x) => (float[n,5] y)",
        "c = Conv(x, w, b)  r = Relu(c)  p = GlobalAveragePool(r)  f = Flatten(p)"
        "  y = Gemm<transB=1>(f, g, d)",
    ),
    "mean": (
        "(float[n,3,9,9] x) => (float[n,5] y)",
        "c = Conv(x, w, b)  r = Relu(c)  f = ReduceMean<axes=[-1,2], keepdims=0>(r)"
        "  y = Gemm<transB=1>(f, g, d)",
    ),
    "flat": (
        "(float[n,3,5,5] x) => (float[n,5] y)",
        "c = Conv(x, w, b)  r = Relu(c)  f = Flatten(r)  y = Gemm(f, g4, d)",
    ),
    "reshaped": (
        "(float[n,3,5,5] x) => (float[n,5] y)",
        "c = Conv(x, w, b)  r = Relu(c)  f = Reshape(r, flat)  y = Gemm(f, g4, d)",
    ),
    "transposed": (
        "(float[n,3,9,9] x) => (float[n,5,11,11] y)",
        "c = ConvTranspose(x, wt, b)  r = Relu(c)  y = Conv(r, v, d)",
    ),
    "products": (
        "(float[n,6] x) => (float[n,5] y)",
        "c = Gemm<beta=0.5>(x, a, b)  r = Relu(c)  y = Gemm<transB=1>(r, g, d)",
    ),
    "groups": (IMAGE, "c = Conv(x, w, b)  r = Relu(c)  y = Conv<group=2>(r, v2, h)"),
}
PAIRS["groups"] = (IMAGE.replace("n,5", "n,4"), PAIRS["groups"][1])


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def constants() -> dict[str, Array]:
    apart = SPREAD[:, None, None, None]
    read = normal(5, WIDTH, 1, 1) / apart[None, :, 0]
    halves = np.stack([SPREAD[:4], SPREAD[:4], SPREAD[4:], SPREAD[4:]])
    return {
        "w": normal(WIDTH, 3, 3, 3) * apart,
        "wt": normal(3, WIDTH, 3, 3) * apart[None, :, 0],
        "b": normal(WIDTH) * SPREAD,
        "v": read,
        "v2": normal(4, 4, 1, 1) / halves[:, :, None, None],
        "v3": normal(5, WIDTH, 3, 3) / apart[None, :, 0],
        "d": normal(5),
        "h": normal(4),
        "a": normal(6, WIDTH) * SPREAD,
        "g": np.ascontiguousarray(read[:, :, 0, 0]),
        "g4": normal(9 * WIDTH, 5) / np.repeat(SPREAD, 9)[:, None],
        "slope": RNG.random((WIDTH, 1, 1)).astype(np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "flat": np.array([0, -1]),
        "mixed": np.array([-1, 4 * 9]),
    }


def graph(header: str, text: str, opset: int = 17) -> Model:
    used = {
        name: array
        for name, array in constants().items()
        if name in text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    }
    return parse(f"{header} {{ {text} }}", opset, **used)


def images(model: Model, count: int = 16) -> Array:
    (spec,) = model.signature.inputs
    return normal(count, *(int(size) for size in spec.shape[1:]))


def equalized(model: Model, x: Array, step: EqualizeLayers | None = None) -> tuple[Model, Change]:
    step = step or EqualizeLayers()
    return step.apply(model, gather(step, model, lambda: [{"x": x[:7]}, {"x": x[7:]}]))


def int8_error(model: Model, x: Array, recipe: str) -> float:
    """Of ``recipe`` over the signal."""
    (expected,) = answers(model, {"x": x})
    quantized, _ = applied(Recipe.parse(recipe), model, Gatherer(lambda: [{"x": x}]))
    (got,) = answers(quantized, {"x": x})
    return float(np.square(got - expected).mean() / expected.var())


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_in_float_and_better_in_int8(name: str) -> None:
    model = graph(*PAIRS[name])
    x = images(model)
    after, change = equalized(model, x)
    assert change.rewrites == 1
    assert not change.reasons
    assert difference(answers(model, {"x": x}), answers(after, {"x": x})) <= 1e-5
    assert after.op_counts() == model.op_counts()
    assert after.signature == model.signature
    static = "quantize_static(weight_bits=7)"
    plain = int8_error(model, x, static)
    assert int8_error(model, x, f"equalize_layers(weight_bits=7),{static}") < 0.3 * plain


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_done_is_done(activations: str) -> None:
    model = graph(*PAIRS["relu"])
    x, step = images(model), EqualizeLayers(activations)
    once, _ = equalized(model, x, step)
    assert equalized(once, x, step)[0] is once


def test_channels_that_are_alike_are_left_alone() -> None:
    model = parse(
        f"{IMAGE} {{ c = Conv(x, w, b)  r = Relu(c)  y = Conv(r, v) }}",
        w=np.repeat(normal(1, 3, 3, 3), WIDTH, axis=0), b=np.ones(WIDTH, np.float32),
        v=np.sign(normal(5, WIDTH, 1, 1)),
    )  # fmt: skip
    same, change = equalized(model, images(model))
    assert same is model
    assert not change.reasons


def test_room_is_left_for_what_was_not_seen() -> None:
    """The largest channel stays as large; were all as large, new samples would be cut in all."""
    model = graph(*PAIRS["relu"])
    x, step = images(model), EqualizeLayers()
    after, _ = equalized(model, x)
    before, now = (
        gather(step, each, lambda: [{"x": x}]).moments["r"].high for each in (model, after)
    )
    top = int(before.argmax())
    np.testing.assert_allclose(now[top], before[top], rtol=1e-5)
    assert np.delete(now, top).max() <= 0.76 * now[top]
    assert now.min() > 10 * before.min()


def test_channels_that_are_dead_or_not_read() -> None:
    parts = constants()
    parts["w"][0] = 0
    parts["b"][0] = 0
    parts["v"][:, 1] = 0
    text = "c = Conv(x, w, b)  r = Relu(c)  y = Conv(r, v)"
    model = parse(f"{IMAGE} {{ {text} }}", w=parts["w"], b=parts["b"], v=parts["v"])
    x = images(model)
    after, _ = equalized(model, x)
    assert difference(answers(model, {"x": x}), answers(after, {"x": x})) <= 1e-5
    weights = [value.const_value for value in after.ir.graph.initializers.values()]
    assert all(np.isfinite(weight.numpy()).all() for weight in weights if weight is not None)


REFUSED = {
    "relu6": (IMAGE, "c = Conv(x, w, b)  r = Clip(c, zero, six)  y = Conv(r, v, d)",
              "the Clip between them cuts at 6"),
    "computed bounds": (
        "(float[n,3,9,9] x, float m) => (float[n,5,7,7] y)",
        "c = Conv(x, w, b)  r = Clip(c, zero, m)  y = Conv(r, v, d)",
        "the bounds of the Clip are computed"),
    "another reader": (IMAGE, "c = Conv(x, w, b)  r = Relu(c)  e = Conv(r, v, d)  s = Sigmoid(r)"
                       "  t = ReduceMean<axes=[1]>(s)  y = Add(e, t)",
                       "another node reads what lies between"),
    "read before": (IMAGE, "c = Conv(x, w, b)  r = Relu(c)  e = Conv(r, v, d)  s = Sigmoid(c)"
                    "  t = ReduceMean<axes=[1]>(s)  y = Add(e, t)",
                    "another node reads what lies between"),
    "an output": ("(float[n,3,9,9] x) => (float[n,5,7,7] y, float[n,8,7,7] r)",
                  "c = Conv(x, w, b)  r = Relu(c)  y = Conv(r, v, d)",
                  "what lies between is an output of the graph"),
    "indices": ("(float[n,3,16,16] x) => (float[n,5,7,7] y, int64[n,8,7,7] i)",
                "c = Conv(x, w, b)  p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)"
                "  y = Conv(p, v, d)",
                "another output of the MaxPool"),
    "mixed channels": ("(float[n,3,8,8] x) => (float[m,5] y)",
                       "c = Conv(x, w, b)  r = Relu(c)  f = Reshape(r, mixed)  y = Gemm(f, g5, d)",
                       "the Reshape moves channels"),
    "reduced channels": ("(float[n,3,9,9] x) => (float[n,5] y)",
                         "c = Conv(x, w, b)  f = ReduceMax<axes=[1, 2], keepdims=0>(c)"
                         "  y = Gemm(f, g7, d)",
                         "the ReduceMax may reduce channels"),
    "shared weights": ("(float[n,8,9,9] x) => (float[n,8,9,9] y)",
                       "c = Conv(x, u)  r = Relu(c)  y = Conv(r, u)",
                       "other nodes read the same weights"),
    "computed bias": ("(float[n,3,9,9] x, float[8] m) => (float[n,5,7,7] y)",
                      "c = Conv(x, w, m)  r = Relu(c)  y = Conv(r, v, d)",
                      "its bias is not constant"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_stays_says_why(name: str) -> None:
    header, text, why = REFUSED[name]
    more = {"g5": normal(36, 5), "g7": normal(7, 5), "u": normal(8, 8, 1, 1)}
    known = {**constants(), **more}
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {key: array for key, array in known.items() if key in words}
    model = parse(f"{header} {{ {text} }}", **used)
    step = EqualizeLayers()
    same, change = step.apply(model, Facts())
    assert same is model
    (missed,) = change.missed
    assert why in missed.why
    assert missed.kind == "equalisation"


@pytest.mark.parametrize(
    "text",
    [
        "c = Conv(x, w, b)  r = Sigmoid(c)  y = Conv(r, v, d)",
        "r = MaxPool<kernel_shape=[3,3]>(x)  y = Conv(r, q)",
    ],
)
def test_what_is_no_pair_is_not_told_of(text: str) -> None:
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    known = {**constants(), "q": normal(5, 3, 1, 1)}
    model = parse(f"{IMAGE} {{ {text} }}", **{k: v for k, v in known.items() if k in words})
    same, change = EqualizeLayers().apply(model, Facts())
    assert same is model
    assert not change.reasons


def test_channels_that_were_not_observed_are_told() -> None:
    change = EqualizeLayers().apply(graph(*PAIRS["relu"]), Facts())[1]
    assert [missed.why for missed in change.missed] == ["the channels of r were not observed"]


def test_weights_that_would_overflow_stay() -> None:
    parts = constants()
    parts["v"] *= np.float32(1e30)
    parts["v"][0, 0] = 3e38
    model = parse(
        f"{IMAGE} {{ c = Conv(x, w, b)  r = Relu(c)  y = Conv(r, v) }}",
        w=parts["w"] * np.float32(1e-37), b=parts["b"] * np.float32(1e-37), v=parts["v"],
    )  # fmt: skip
    step = EqualizeLayers()
    before = serialized(model)
    after, _ = step.apply(model, gather(step, model, lambda: [{"x": images(model)}]))
    assert serialized(model) == before
    x = images(model)
    assert difference(answers(model, {"x": x}), answers(after, {"x": x})) <= 1e-4


def chain(rng: np.random.Generator) -> Model:
    """Convolutions of random widths, kernels and groups, with or without something between."""
    width, value, text, size = 3, "x", [], 12
    weights: dict[str, Array] = {}
    for index in range(int(rng.integers(3, 7))):
        depthwise = index > 0 and rng.random() < 0.4
        out = width if depthwise else int(rng.integers(4, 12))
        kernel = int(rng.choice([1, 3])) if size > 4 else 1
        inner = 1 if depthwise else width
        scale = np.exp(rng.normal(0, 2, (out, 1, 1, 1)))
        weights[f"w{index}"] = (rng.standard_normal((out, inner, kernel, kernel)) * scale).astype(
            np.float32
        )
        given = ""
        if rng.random() < 0.7:
            weights[f"b{index}"] = rng.standard_normal(out).astype(np.float32)
            given = f", b{index}"
        group = f"<group={width}>" if depthwise else ""
        text.append(f"c{index} = Conv{group}({value}, w{index}{given})")
        value, width, size = f"c{index}", out, size - kernel + 1
        between = rng.choice(["", "Relu", "LeakyRelu", "AveragePool", "Elu"])
        if between:
            fields = "<kernel_shape=[2,2], pads=[0,0,1,1]>" if between == "AveragePool" else ""
            text.append(f"r{index} = {between}{fields}({value})")
            value = f"r{index}"
    text.append(f"y = Identity({value})")
    header = f"(float[n,3,12,12] x) => (float[n,{width},{size},{size}] y)"
    return parse(f"{header} {{ {'  '.join(text)} }}", **weights)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_chains_keep_their_answers(seed: int) -> None:
    model = chain(np.random.default_rng(seed))
    x = images(model)
    after, change = equalized(model, x)
    assert difference(answers(model, {"x": x}), answers(after, {"x": x})) <= EqualizeLayers.rtol
    assert not change.reasons
    assert equalized(after, x)[0] is after, "one round is enough"


def test_expand_depthwise_project_as_in_mobilenet() -> None:
    """Both pairs of the block are found, and the noise of int8 falls by far."""
    wide = 24
    spread = np.exp(RNG.normal(0, 2, wide)).astype(np.float32)
    along = spread[:, None, None, None]
    again = np.exp(RNG.normal(0, 2, wide)).astype(np.float32)[:, None, None, None]
    model = parse(
        """(float[n,8,9,9] x) => (float[n,8,9,9] y) {
            e = Conv(x, we, be)  er = Relu(e)
            d = Conv<group=24, pads=[1,1,1,1]>(er, wd, bd)  dr = Relu(d)
            y = Conv(dr, wp, bp)
        }""",
        we=normal(wide, 8, 1, 1) * along, be=normal(wide) * spread,
        wd=normal(wide, 1, 3, 3) / along * again, bd=normal(wide) * again[:, 0, 0, 0],
        wp=normal(8, wide, 1, 1) / again[None, :, 0], bp=normal(8),
    )  # fmt: skip
    x = images(model)
    assert equalized(model, x)[1].rewrites == 2
    static = "quantize_static(weight_bits=7)"
    plain = int8_error(model, x, static)
    better = int8_error(model, x, f"equalize_layers(weight_bits=7),{static}")
    assert better < 0.05 * plain
