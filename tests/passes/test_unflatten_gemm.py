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
