from __future__ import annotations

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_skip_layer_norm import FuseSkipLayerNorm
from zoo.graphs import apply, parse

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
        (f"s = Add(x, r) {NORM} z = Add(s, r)", 4),
        (f"a = Add(x, b) s = Add(a, r) {NORM} z = Mul(s, r)", 5),
    ],
)
def test_sums_with_and_without_bias(body: str, inputs: int) -> None:
    after, change = apply(FUSE, model(body), feeds())
    assert change.rewrites == 1
    (node,) = (n for n in after.nodes() if n.op_type == "SkipLayerNormalization")
    assert len(node.inputs) == inputs
    assert after.op_counts().get("Add", 0) == ("z = Add" in body)
    assert len(node.outputs) == (4 if "s, r)" in body.split("z =")[1] else 1)


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
