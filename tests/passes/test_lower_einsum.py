from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.lower_einsum import LowerEinsum
from zoo.graphs import apply, parse

LOWER = LowerEinsum()
SIZES = {letter: size for size, letter in enumerate("abcdefgh", start=2)}


def lowered(equation: str, *, free: str = "") -> dict[str, int]:
    """The operators after the pass, which has been seen to keep the result."""
    one, two, out = equation.replace("->", ",").split(",")
    told = {x: x if x in free else str(SIZES[x]) for x in SIZES}
    dims = [",".join(told[x] for x in part) for part in (one, two, out)]
    model = parse(
        f"(float[{dims[0]}] x, float[{dims[1]}] y) => (float[{dims[2]}] z)"
        f' {{ z = Einsum<equation="{equation}">(x, y) }}'
    )
    rng = np.random.default_rng(0)
    shapes = ([SIZES[letter] for letter in part] for part in (one, two))
    feeds = {
        name: rng.standard_normal(shape, np.float32)
        for name, shape in zip("xy", shapes, strict=True)
    }
    after, change = apply(LOWER, model, feeds)
    assert change.rewrites == 1, change.reasons
    return after.op_counts()


@pytest.mark.parametrize(
    ("equation", "left"),
    [
        ("ab,bc->ac", {"MatMul": 1}),
        ("abc,abd->acd", {"MatMul": 1, "Transpose": 1}),
        ("abcd,abde->abce", {"MatMul": 1}),
        ("abcd,aecd->acbe", {"MatMul": 1, "Transpose": 2}),  # scores of attention
        ("acbe,aecd->abcd", {"MatMul": 1, "Transpose": 2}),  # and what they weigh
        ("abc,cde->abde", {"MatMul": 1, "Reshape": 2}),  # a projection to heads
        ("abcd,cde->abe", {"MatMul": 1, "Reshape": 2}),  # and back
        ("ab,cb->ca", {"MatMul": 1, "Transpose": 1}),
        ("ab,ab->a", {"MatMul": 1, "Reshape": 3}),
    ],
)
def test_the_product_of_every_equation(equation: str, left: dict[str, int]) -> None:
    assert lowered(equation) == left
    assert lowered(equation, free="a")["MatMul"] == 1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_the_order_of_the_letters(data: st.DataObject) -> None:
    letters = iter(SIZES)
    lows = (0, 1, 0, 0)
    batch, summed, mine, yours = (
        [next(letters) for _ in range(data.draw(st.integers(low, 2)))] for low in lows
    )
    parts = (batch + summed + mine, batch + summed + yours, batch + mine + yours)
    one, two, out = ("".join(data.draw(st.permutations(part))) for part in parts)
    if out:
        assert lowered(f"{one},{two}->{out}")["MatMul"] == 1


@pytest.mark.parametrize(
    ("equation", "dims", "why"),
    [
        ("ab,ab->ab", ("2,3", "2,3", "2,3"), "sums over nothing"),
        ("ab,c->ac", ("2,3", "4", "2,4"), "one operand alone"),
        ("aa,ab->ab", ("3,3", "3,4", "3,4"), "comes twice"),
        ("...a,ab->...b", ("2,3", "3,4", "2,4"), "letters alone"),
        ("ab,bc->ac", ("2,1", "3,4", "2,4"), "broadcast"),
        ("ab,bc->ac", ("n,m", "k,l", "n,l"), "broadcast"),
    ],
)
def test_what_is_no_product_stays(equation: str, dims: tuple[str, str, str], why: str) -> None:
    model = parse(
        f"(float[{dims[0]}] x, float[{dims[1]}] y) => (float[{dims[2]}] z)"
        f' {{ z = Einsum<equation="{equation}">(x, y) }}'
    )
    after, change = LOWER.apply(model)
    assert after is model
    assert why in change.reasons[0]
