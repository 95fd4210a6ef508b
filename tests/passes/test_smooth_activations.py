"""Outliers move into the weights: the same answers in float, better ones in int8."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.smooth_activations import FEWEST_ROWS, SmoothActivations
from onnxpress.recipe import Facts, Recipe
from onnxpress.verbs.calibrate import Gatherer, applied, gather
from zoo.graphs import answers, parse

WIDTH = 32
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def outliers(rows: int = 256) -> np.ndarray:
    """Two channels are a hundred times the others, one of them far from 0, and one is always 0."""
    x = normal(rows, WIDTH)
    x[:, 3] *= 100
    x[:, 7] = x[:, 7] + 80
    x[:, 11] = 0
    return x


def product(op: str = "y = MatMul(x, w)") -> Model:
    return parse(
        f"(float[n,{WIDTH}] x) => (float[n,24] y) {{ {op} }}",
        w=normal(24, WIDTH) if "transB" in op else normal(WIDTH, 24),
        b=normal(24),
    )


GRAPHS = {
    "matmul": "y = MatMul(x, w)",
    "matmul and bias": "a = MatMul(x, w)  y = Add(a, b)",
    "bias first": "a = MatMul(x, w)  y = Add(b, a)",
    "gemm": "y = Gemm(x, w, b)",
    "gemm without bias": "y = Gemm(x, w)",
    "gemm turned": "y = Gemm<transB=1>(x, w, b)",
    "one input, two readers": "a = Gemm(x, w, b)  c = MatMul(x, w)  d = Add(c, b)  y = Add(a, d)",
    "read by others too": "a = Gemm(x, w, b)  m = ReduceMean<axes=[1]>(x)  y = Add(a, m)",
}


def smoothed(model: Model, x: np.ndarray, step: SmoothActivations | None = None) -> Model:
    step = step or SmoothActivations()
    after, change = step.apply(model, gather(step, model, lambda: [{"x": x}]))
    assert change.changed, change.reasons
    return after


@pytest.mark.parametrize("graph", GRAPHS)
def test_float_answers_stay_and_int8_ones_get_better(graph: str) -> None:
    model, x = product(GRAPHS[graph]), outliers()
    (expected,) = answers(model, {"x": x})
    (after,) = answers(smoothed(model, x), {"x": x})
    np.testing.assert_allclose(after, expected, atol=1e-4 * float(np.abs(expected).max()))
    errors = []
    for recipe in ("quantize_static", "smooth_activations,quantize_static"):
        quantized, _ = applied(Recipe.parse(recipe), model, Gatherer(lambda: [{"x": x}]))
        (got,) = answers(quantized, {"x": x})
        errors.append(float(np.square(got - expected).mean()))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_the_middle_is_taken_off_only_where_a_bias_takes_it_up(activations: str) -> None:
    x, step = outliers(), SmoothActivations(activations)
    with_bias = smoothed(product("y = Gemm(x, w, b)"), x, step).op_counts()
    without = smoothed(product("y = MatMul(x, w)"), x, step).op_counts()
    assert with_bias.get("Sub", 0) <= 1
    assert "Sub" not in without
    assert without["Mul"] == 1


def test_one_factor_for_all_readers_of_an_activation() -> None:
    after = smoothed(product(GRAPHS["one input, two readers"]), outliers())
    counts = after.op_counts()
    assert counts.get("Mul", 0) <= 1
    assert counts.get("Sub", 0) <= 1


def test_what_has_no_outliers_is_left_alone() -> None:
    model, step = product(), SmoothActivations()
    same, change = step.apply(model, gather(step, model, lambda: [{"x": normal(256, WIDTH)}]))
    assert same is model
    assert not change.reasons


def test_done_is_done() -> None:
    x = outliers()
    once = smoothed(product(), x)
    step = SmoothActivations()
    assert step.apply(once, gather(step, once, lambda: [{"x": x}]))[0] is once


def test_too_few_rows_are_told_with_their_number() -> None:
    model, step = product(), SmoothActivations()
    facts = gather(step, model, lambda: [{"x": outliers(3)}])
    same, change = step.apply(model, facts)
    assert same is model
    (missed,) = change.missed
    assert missed.kind == "smoothing"
    assert missed.nodes == ("y",)
    assert missed.why == f"3 rows of its input were seen, {FEWEST_ROWS} are needed"
    assert not change.refusals, "the product is quantised all the same"
    assert "0 rows" in step.apply(model, Facts())[1].missed[0].why


def test_masks_and_computed_weights_are_left_alone() -> None:
    x = outliers()
    x[:, 0] = np.finfo(np.float32).min
    model, step = product(), SmoothActivations()
    assert step.apply(model, gather(step, model, lambda: [{"x": x}]))[0] is model
    computed = parse(
        f"(float[n,{WIDTH}] x) => (float[n,n] y) {{ t = Transpose(x)  y = MatMul(x, t) }}"
    )
    assert step.apply(computed, gather(step, computed, lambda: [{"x": outliers()}]))[0] is computed


FEEDING = {
    "LayerNormalization": "x = LayerNormalization(i, g, h)",
    "its parts": "n = LayerNormalization(i, one)  t = Mul(n, g)  x = Add(t, h)",
    "a product behind ReLU": "m = MatMul(i, v)  t = Add(m, h)  x = Relu(t)",
    "Gemm behind ReLU": "t = Gemm<transB=1>(i, v, h)  x = Relu(t)",
}


@pytest.mark.parametrize("feeding", FEEDING)
def test_what_computes_the_activation_takes_the_factors(feeding: str) -> None:
    """Then they cost nothing, and no Mul parts a product from its rounded result."""
    gain = np.where(np.arange(WIDTH) == 5, 300, 1).astype(np.float32)
    model = parse(
        f"(float[n,{WIDTH}] i) => (float[n,24] y) {{ {FEEDING[feeding]} y = Gemm(x, w, b) }}",
        w=normal(WIDTH, 24),
        b=normal(24),
        g=gain * (1 + RNG.random(WIDTH).astype(np.float32)),
        h=normal(WIDTH) * gain,
        one=np.ones(WIDTH, np.float32),
        v=normal(WIDTH, WIDTH) * (gain[:, None] if "Gemm" in feeding else gain),
    )
    inputs = {"i": normal(256, WIDTH)}
    step = SmoothActivations()
    after, change = step.apply(model, gather(step, model, lambda: [inputs]))
    assert change.rewrites == 1
    ops = [[node.op_type for node in each.ir.graph] for each in (model, after)]
    assert ops[0] == ops[1]
    expected, got = answers(model, inputs)[0], answers(after, inputs)[0]
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
    errors = []
    for start in (model, after):
        recipe = Recipe.parse("quantize_static")
        quantized, _ = applied(recipe, start, Gatherer(lambda: [inputs]))
        errors.append(float(np.square(answers(quantized, inputs)[0] - expected).mean()))
    assert errors[1] < 0.5 * errors[0]
    assert not step.apply(after, gather(step, after, lambda: [inputs]))[1].changed, "done is done"


@pytest.mark.parametrize(
    "feeding",
    [
        "x = LayerNormalization(i, g, h)  r = Add(x, i)  s = ReduceSum(r, axes)",
        "x = Add(i, h)  s = Identity(b)",
    ],
)
def test_what_others_read_keeps_its_values(feeding: str) -> None:
    model = parse(
        f"(float[n,{WIDTH}] i) => (float[n,24] y) {{ {feeding}  m = Gemm(x, w, b) y = Add(m, s) }}",
        w=normal(WIDTH, 24),
        b=normal(24),
        g=np.where(np.arange(WIDTH) == 5, 300, 1).astype(np.float32),
        h=normal(WIDTH),
        axes=np.array([1], np.int64),
    )
    inputs = {"i": outliers()}
    step = SmoothActivations()
    after, change = step.apply(model, gather(step, model, lambda: [inputs]))
    assert change.rewrites == 1
    assert "Mul" in [node.op_type for node in after.ir.graph]
    expected, got = answers(model, inputs)[0], answers(after, inputs)[0]
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
