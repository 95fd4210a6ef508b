from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_skip_layer_norm import FuseSkipLayerNorm
from onnxpress.recipe import Recipe
from onnxpress.verbs.calibrate import executed
from zoo.graphs import answers, apply, parse

FUSE = FuseSkipLayerNorm()
NORM = "y = LayerNormalization<axis=-1, epsilon=0.001>(s, gamma, beta)"


def model(body: str, dims: str = "n,l,4") -> Model:
    return parse(
        f"(float[{dims}] x, float[n,l,4] r) => (float[n,l,4] y, float[n,l,4] z) {{ {body} }}",
        gamma=np.float32([1, 2, 3, 4]), beta=np.float32([4, 3, 2, 1]), b=np.float32([0, 1, 0, 2]),
    )  # fmt: skip


def feeds(rows: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        k: rng.standard_normal((n, 3, 4)).astype(np.float32) for k, n in (("x", rows), ("r", 2))
    }


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (f"s = Add(x, r) {NORM} z = Relu(r)", 4),
        (f"a = Add(x, b) s = Add(a, r) {NORM} z = Relu(r)", 5),
        (f"a = Add(b, x) s = Add(r, a) {NORM} z = Relu(r)", 5),
    ],
)
def test_sums_with_and_without_bias(body: str, inputs: int) -> None:
    after, change = apply(FUSE, model(body), feeds())
    assert change.rewrites == 1
    (node,) = (n for n in after.nodes() if n.op_type == "SkipLayerNormalization")
    assert len(node.inputs) == inputs
    assert "Add" not in after.op_counts()
    assert len(node.outputs) == 1


def test_a_sum_that_others_read_is_left_to_two_kernels() -> None:
    before = model(f"s = Add(x, r) {NORM} z = Relu(s)")
    _, change = apply(FUSE, before, feeds())
    assert not change.changed
    (missed,) = change.missed
    assert "others read the sum" in missed.why
    assert missed.blocking == "z"
    assert len(executed(before)) == 3  # nor does ONNX Runtime make one of them


@pytest.mark.parametrize(
    ("body", "dims", "why"),
    [
        (f"s = Add(x, r) {NORM} z = Relu(r)", "1,l,4", r"[1, l, 4]"),
    ],
)
def test_what_is_left_alone_is_told(body: str, dims: str, why: str) -> None:
    _, change = apply(FUSE, model(body, dims), feeds(1))
    assert not change.changed
    assert why in change.reasons[0]


def test_an_output_of_the_model_stays_one() -> None:
    _, change = apply(FUSE, model(f"z = Add(x, r) {NORM.replace('(s,', '(z,')}"), feeds())
    assert "the sum is an output of the model" in change.reasons[0]


@pytest.mark.parametrize("norm", ["RMSNormalization", "SimplifiedLayerNormalization"])
@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("s = Add(x, r) NORM z = Relu(r)", 3),
        ("a = Add(x, b) s = Add(r, a) NORM z = Relu(r)", 4),
    ],
)
def test_norms_without_a_mean(norm: str, body: str, inputs: int) -> None:
    text = body.replace("NORM", f"y = {norm}<axis=-1, epsilon=0.001>(s, gamma)")
    before = parse(
        f"(float[n,l,4] x, float[n,l,4] r) => (float[n,l,4] y, float[n,l,4] z) {{ {text} }}", 23,
        11, gamma=np.float32([1, 2, 3, 4]), b=np.float32([0, 1, 0, 2]),
    )  # fmt: skip
    after, change = apply(FUSE, before, feeds(), known=False)
    assert change.rewrites == 1
    (node,) = (n for n in after.nodes() if n.op_type == "SkipSimplifiedLayerNormalization")
    assert (len(node.inputs), len(node.outputs)) == (inputs, 1)
    assert len(executed(after)) <= len(executed(before))


def test_a_number_is_no_bias() -> None:
    body = f"a = Add(x, b) s = Add(a, r) {NORM} z = Relu(r)"
    one = parse(
        f"(float[n,l,4] x, float[n,l,4] r) => (float[n,l,4] y, float[n,l,4] z) {{ {body} }}",
        gamma=np.float32([1, 2, 3, 4]), beta=np.float32([4, 3, 2, 1]), b=np.float32([5]),
    )  # fmt: skip
    after, change = apply(FUSE, one, feeds())
    assert change.rewrites == 1
    assert after.op_counts()["Add"] == 1


def test_double_precision_is_left_alone() -> None:
    body = f"s = Add(x, r) {NORM} z = Relu(r)"
    numbers = {"gamma": np.ones(4), "beta": np.zeros(4)}
    double = parse(
        f"(double[n,l,4] x, double[n,l,4] r) => (double[n,l,4] y, double[n,l,4] z) {{ {body} }}",
        **numbers,
    )
    _, change = apply(FUSE, double)
    assert "there is no kernel for its type" in change.reasons[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_any_size(batch: int, length: int, size: int, mean: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centred = "m = ReduceMean<axes=[-1]>(s) d = Sub(s, m) " if mean else "d = Identity(s) "
    body = (
        "a = Add(b, x) s = Add(a, r) " + centred + "q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) "
        "e = Add(v, epsilon) o = Sqrt(e) n = Div(d, o) y = Mul(n, gamma) z = Relu(r)"
    )  # fmt: skip
    sizes = f"float[n,l,{size}]"
    written = parse(
        f"({sizes} x, {sizes} r) => ({sizes} y, {sizes} z) {{ {body} }}", 15, 8,
        gamma=rng.standard_normal(size).astype(np.float32), epsilon=np.float32(1e-3),
        b=rng.standard_normal(size).astype(np.float32),
    )  # fmt: skip
    steps = "eliminate_identity,fuse_layer_norm(contrib=True),fuse_skip_layer_norm"
    after, change = Recipe.parse(steps).apply(written)
    assert change.missed == ()
    op = "SkipLayerNormalization" if mean else "SkipSimplifiedLayerNormalization"
    assert after.op_counts() == {"Relu": 1, f"com.microsoft::{op}": 1}
    data = {k: rng.standard_normal((batch, length, size)).astype(np.float32) for k in "xr"}
    for one, two in zip(answers(written, data), answers(after, data), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
