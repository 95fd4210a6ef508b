from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.eliminate_dead import EliminateDead
from onnxpress.passes.simplify_views import SimplifyViews
from onnxpress.passes.unflatten_gemm import UnflattenGemm
from zoo.graphs import apply, parse

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
UNFLATTEN = UnflattenGemm()
BACK = "s = Shape(x) h = Slice(s, front, two) back = Concat<axis=0>(h, five) "


def remaining(gemm: str, after: str = "y = Reshape(g, back)") -> dict[str, int]:
    rng = np.random.default_rng(1)
    model = parse(
        f"(float[n,l,4] x) => (float[a,b,c] y) {{ {BACK}f = Reshape(x, flat) g = {gemm} {after} }}",
        flat=np.array([-1, 4]), front=np.array([0]), two=np.array([2]), five=np.array([5]),
        w=rng.standard_normal((4, 5), np.float32),
        wt=rng.standard_normal((5, 4), np.float32), b=rng.standard_normal(5, np.float32),
    )  # fmt: skip
    lifted, _ = apply(UNFLATTEN, model, {"x": X})
    short, _ = SimplifyViews().apply(lifted)
    return EliminateDead().apply(short)[0].op_counts()


@pytest.mark.parametrize(
    ("gemm", "left"),
    [
        ("Gemm(f, w, b)", {"MatMul": 1, "Add": 1}),
        ("Gemm<transB=1>(f, wt, b)", {"MatMul": 1, "Add": 1}),
        ("Gemm(f, w)", {"MatMul": 1}),
    ],
)
def test_the_reshapes_go(gemm: str, left: dict[str, int]) -> None:
    assert remaining(gemm, "r = Reshape(g, back) y = Relu(r)") == {**left, "Relu": 1}


@pytest.mark.parametrize(
    ("gemm", "after"),
    [
        ("Gemm<alpha=0.5>(f, w, b)", "y = Reshape(g, back)"),
        ("Gemm<beta=0.5>(f, w, b)", "y = Reshape(g, back)"),
        ("Gemm(f, w, b)", "r = Relu(g) y = Reshape(r, back)"),
    ],
)
def test_others_stay(gemm: str, after: str) -> None:
    assert remaining(gemm, after)["Gemm"] == 1


@pytest.mark.parametrize(("rows", "left"), [(1, {"MatMul": 1, "Add": 1}), (6, {"Gemm": 1})])
def test_what_is_added_is_the_same_in_all_rows(rows: int, left: dict[str, int]) -> None:
    rng = np.random.default_rng(1)
    model = parse(
        "(float[2,3,4] x) => (float[2,3,5] y) { f = Reshape(x, flat) g = Gemm(f, w, c)"
        " r = Reshape(g, back) y = Relu(r) }",
        flat=np.array([-1, 4]), back=np.array([2, 3, 5]),
        w=rng.standard_normal((4, 5), np.float32), c=rng.standard_normal((rows, 5), np.float32),
    )  # fmt: skip
    lifted, _ = apply(UNFLATTEN, model, {"x": X})
    ops = SimplifyViews().apply(lifted)[0].op_counts()
    assert {op: ops.get(op) for op in left} == left
