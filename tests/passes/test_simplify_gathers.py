from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.eliminate_dead import EliminateDead
from onnxpress.passes.simplify_gathers import SimplifyGathers
from zoo.graphs import apply, parse

SIMPLIFY = SimplifyGathers()
SIZES = (
    "sh = Shape(x) n = Gather(sh, zero) l = Gather(sh, first) "
    "rn = Range(zero, n, first) rl = Range(zero, l, first) "
)
ROWS = SIZES + "b = Unsqueeze(rn, later) p = Unsqueeze(rl, front) "


def remaining(body: str, outputs: str = "float[a,b,c] y") -> dict[str, int]:
    model = parse(
        f"(float[n,l] x, bool[n,l] m) => ({outputs}) {{ {body} }}", 17, zero=np.int64(0),
        first=np.int64(1), two=np.int64(2), later=np.array([1]), front=np.array([0]),
        end=np.array([-1]), flat=np.array([-1]), low=np.int64(0),
        one=np.float32(1), none=np.float32(0),
        table=np.arange(12, dtype=np.float32).reshape(6, 2),
        counted=np.array([[0, 1, 2], [3, 4, 5]]), odd=np.array([[0, 1, 2], [3, 5, 4]]),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 3)).astype(np.float32)
    after, _ = apply(SIMPLIFY, model, {"x": x, "m": rng.random((3, 3)) < 0.5})
    return EliminateDead().apply(after)[0].op_counts()


def test_a_gather_by_counting_indices_is_a_reshape() -> None:
    body = ROWS + "s = Mul(b, l) i = Add(s, p) f = Reshape(x, flat) g = Gather(f, i) y = Relu(g)"
    assert remaining(body, "float[a,b] y") == {"Relu": 1}
    assert remaining("g = Gather(table, counted) y = Relu(g)") == {"Reshape": 1, "Relu": 1}


@pytest.mark.parametrize(
    "body",
    [
        "g = Gather(table, odd) y = Relu(g)",
        ROWS + "s = Mul(b, two) i = Add(s, p) f = Reshape(x, flat) g = Gather(f, i) y = Relu(g)",
    ],
)
def test_other_indices_stay(body: str) -> None:
    assert remaining(body, "float[a,b,c] y" if "table" in body else "float[a,b] y")["Gather"] >= 1


def test_a_gather_nd_by_one_range_for_each_axis() -> None:
    stack = (
        ROWS + "t = Max(b, p) st = Shape(t) eb = Expand(b, st) ep = Expand(p, st) "
        "ub = Unsqueeze(eb, end) up = Unsqueeze(ep, end) "
    )
    body = stack + "i = Concat<axis=-1>(ub, up) g = GatherND(x, i) y = Relu(g)"
    assert remaining(body, "float[a,b] y") == {"Relu": 1}
    other = body.replace("Concat<axis=-1>(ub, up)", "Concat<axis=-1>(up, ub)")
    assert "GatherND" in remaining(other, "float[a,b] y")


AND = ROWS + "g = GreaterOrEqual(b, low) "


def test_true_goes_where_nothing_needs_its_shape() -> None:
    whole = AND + "a = And(g, m) y = Where(a, x, none)"
    assert remaining(whole, "float[a,b] y") == {"Where": 1}
    row = AND + "e = ReduceMax<keepdims=1, axes=[0]>(x) k = Less(e, one) a = And(g, k) "
    assert "And" not in remaining(row + "y = Where(a, x, none)", "float[a,b] y")
    assert "And" in remaining(row + "y = Cast<to=1>(a)", "float[a,b] y")  # its rows are b's
    assert "And" in remaining(AND.replace("low", "first") + "a = And(g, m) y = Where(a, x, none)",
                              "float[a,b] y")  # fmt: skip
