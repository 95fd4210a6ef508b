from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
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
        f"(float[{dims[0]}] x, float[{dims[1]}] y) => (float[{dims[2]}] z) {{"
        f"u = {same(one)}(x) v = {same(two)}(y)"
        f' w = Einsum<equation="{equation}">(u, v) z = {same(out)}(w) }}'
    )
    rng = np.random.default_rng(0)
    shapes = ([SIZES[letter] for letter in part] for part in (one, two))
    feeds = {
        name: rng.standard_normal(shape, np.float32)
        for name, shape in zip("xy", shapes, strict=True)
    }
    after, change = apply(LOWER, model, feeds)
    assert change.rewrites == 1, change.reasons
    ops = after.op_counts()
    ops["Transpose"] -= 3
    return {op: count for op, count in ops.items() if count}


def same(letters: str) -> str:
    """A view beside the Einsum, which others may merge with."""
    return f"Transpose<perm={list(range(len(letters)))}>"


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


@pytest.mark.parametrize(
    ("header", "rewrites"),
    [
        ("(float[2,3,4] x) => (float[2,3,5,6] z)", 1),  # Keras's projections
        ("(float[2,3,4] x, float[4,5,6] y) => (float[2,3,5,6] z)", 0),
    ],
)
def test_views_that_merge_with_nothing_do_not_pay(header: str, rewrites: int) -> None:
    weight = {} if "y)" in header else {"y": np.ones((4, 5, 6), np.float32)}
    model = parse(f'{header} {{ z = Einsum<equation="abc,cde->abde">(x, y) }}', **weight)
    change = apply(LOWER, model)[1]
    assert change.rewrites == rewrites
    assert bool(change.missed) != bool(rewrites)


def test_the_scores_of_an_attention_meet_its_softmax() -> None:
    body = "q = Transpose<perm=[0,1,2,3]>(x) k = Transpose<perm=[0,1,2,3]>(y) "
    body += 's = Einsum<equation="aecd,abcd->acbe">(k, q) t = Mul(s, f) z = Softmax<axis=-1>(t)'
    model = parse(
        f"(float[2,3,4,5] x, float[2,6,4,5] y) => (float[2,4,3,6] z) {{ {body} }}", f=np.float32(2)
    )
    assert apply(LOWER, model)[1].rewrites == 1


def with_heads(bias: tuple[int, ...], side: str, more: str = "", rows: str = "n") -> Model:
    """A projection to three heads of four, to which ``side`` adds; lowered, the result kept."""
    out = f", float[{rows},5,3,4] z" if more else ""
    model = parse(
        f"(float[{rows},5,12] x) => (float[{rows},3,5,4] y{out}) {{ "
        f'e = Einsum<equation="abc,cde->abde">(x, w) s = {side} '
        f"y = Transpose<perm=[0,2,1,3]>(s){more} }}",
        w=np.random.default_rng(0).standard_normal((12, 3, 4), np.float32),
        b=np.random.default_rng(1).standard_normal(bias, np.float32),
    )
    x = np.random.default_rng(2).standard_normal((2, 5, 12), np.float32)
    after, change = apply(LOWER, model, {"x": x})
    assert change.rewrites == 1, change.reasons
    return after


@pytest.mark.parametrize("bias", [(3, 4), (1, 4), (4,), (1, 1, 3, 4)])
@pytest.mark.parametrize("side", ["Add(e, b)", "Add(b, e)"])
def test_what_is_added_to_heads_is_added_before_they_are_split(
    bias: tuple[int, ...], side: str
) -> None:
    """As in Keras' attention: the views that follow can merge with that of the heads."""
    after = with_heads(bias, side)
    assert after.op_counts() == {"MatMul": 1, "Add": 1, "Reshape": 2, "Transpose": 1}
    add, reshape = (
        next(n for n in after.nodes() if n.op_type == op) for op in ("Add", "Transpose")
    )
    assert add.outputs[0].uses()[0].node.op_type == "Reshape"
    assert reshape.inputs[0].producer().op_type == "Reshape"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("bias", "more"), [((5, 1, 1), ""), ((2, 5, 3, 4), ""), ((3, 4), " z = Exp(e)")]
)
def test_other_sums_stay_behind_the_heads(bias: tuple[int, ...], more: str) -> None:
    after = with_heads(bias, "Add(e, b)", more, rows="2")
    (add,) = (node for node in after.nodes() if node.op_type == "Add")
    assert [user.op_type for user, _ in add.outputs[0].uses()] == ["Transpose"]


def test_a_bias_that_a_branch_adds_stays_there() -> None:
    model = parse(
        """(float[3,4] x, bool c) => (float[3,2,2] y) {
            e = Einsum<equation="ab,bcd->acd">(x, w)
            y = If (c) <then_branch = t () => (float[3,2,2] a) { a = Add(e, bias) },
                        else_branch = f () => (float[3,2,2] b) { b = Identity(zeros) }> }""",
        w=np.ones((4, 2, 2), np.float32), bias=np.ones((2, 2), np.float32),
        zeros=np.zeros((3, 2, 2), np.float32),
    )  # fmt: skip
    feeds = {"x": np.ones((3, 4), np.float32), "c": np.array(True)}
    _, change = apply(LOWER, model, feeds, known=False)
    assert change.rewrites == 1
