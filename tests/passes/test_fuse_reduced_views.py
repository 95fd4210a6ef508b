from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.fuse_reduced_views import FuseReducedViews
from zoo.graphs import apply, parse

FUSE = FuseReducedViews()
X = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
CONSTANTS = {
    "hw": np.array([2, 3]), "flat": np.array([0, 3]), "four": np.array([-1, 3, 1, 1]),
    "other": np.array([0, 1, 3, 1]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "rank", "kept"),
    [
        ("m = ReduceMean(x, hw) y = Flatten(m)", 2, 0),
        ("m = ReduceMax(x, hw) y = Reshape(m, flat)", 2, 0),
        ("m = ReduceMean(x, hw) y = Squeeze(m, hw)", 2, 0),
        ("m = ReduceMean<keepdims=0>(x, hw) y = Reshape(m, four)", 4, 1),
        ("m = ReduceSum<keepdims=0>(x, hw) y = Unsqueeze(m, hw)", 4, 1),
    ],
)
def test_the_view_goes(body: str, rank: int, kept: int) -> None:
    dims = ",".join("abcd"[:rank])
    model = parse(f"(float[N,3,h,v] x) => (float[{dims}] y) {{ {body} }}", 18, **CONSTANTS)
    after, _ = apply(FUSE, model, {"x": X})
    (node,) = after.nodes()
    assert node.attributes["keepdims"].as_int() == kept


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean(x, hw) y = Reshape(m, other)",
        "m = GlobalAveragePool(x) y = Reshape(m, other)",
        "a = Identity(hw) m = ReduceMean(x, a) y = Reshape(m, other)",
    ],
)
def test_other_views_stay(body: str) -> None:
    model = parse(f"(float[N,3,h,v] x) => (float[a,b,c,d] y) {{ {body} }}", 18, **CONSTANTS)
    assert not apply(FUSE, model, {"x": X})[1].changed


def test_another_reader_blocks() -> None:
    model = parse(
        """(float[N,3,h,v] x) => (float[a,b] y, float[e,f,g,k] z)
        { m = ReduceMean(x, hw) y = Flatten(m) z = Mul(x, m) }""", 18, **CONSTANTS
    )  # fmt: skip
    (missed,) = apply(FUSE, model, {"x": X})[1].missed
    assert missed.why == "another node reads it too"
    assert missed.blocking == "z"


@settings(max_examples=30, deadline=None)
@given(
    axes=st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique_by=lambda axis: axis % 4),
    keep=st.booleans(),
    view=st.sampled_from(["Squeeze(m, axes)", "Unsqueeze(m, axes)", "Flatten(m)"]),
    outputs=st.integers(1, 2),
)
def test_any_reduction(axes: list[int], keep: bool, view: str, outputs: int) -> None:
    if view.startswith("Squeeze") and not keep:
        return
    axes = sorted(axis % 4 for axis in axes)
    made = " ".join(f"y{index} = {view}" for index in range(outputs))
    rank = {"S": 4 - len(axes), "U": 4, "F": 2}[view[0]]
    if view.startswith("Unsqueeze") and keep:
        rank = 4 + len(axes)
    dims = [",".join(f"{letter}{i}" for letter in "abcdefgh"[:rank]) for i in range(outputs)]
    declared = ", ".join(f"float[{dim}] y{index}" for index, dim in enumerate(dims))
    model = parse(
        f"""(float[N,3,h,v] x) => ({declared})
        {{ m = ReduceMean<keepdims={int(keep)}>(x, axes) {made} }}""",
        18, axes=np.array(axes),
    )  # fmt: skip
    apply(FUSE, model, {"x": X})
