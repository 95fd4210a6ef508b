from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_rotary import FuseRotary
from zoo.graphs import answers, apply, difference, parse

FUSE = FuseRotary()
LENGTH = 5

HEADS = "r = Reshape(x, split) h = Transpose<perm=[0,2,1,3]>(r) "
ANGLES = (
    "f = Mul(positions, frequencies) t = Concat<axis=-1>(f, f) c0 = Cos(t) s0 = Sin(t) "
    "c = Unsqueeze(c0, one) s = Unsqueeze(s0, one) "
)
HALVES = {
    "slices": "a = Slice(h, zero, half, last) b = Slice(h, half, end, last) ",
    "slices from the end": "a = Slice(h, zero, half, minus) b = Slice(h, back, end, minus) ",
    "a split": "a, b = Split<axis=3>(h, halves) ",
}
TURN = "n = Neg(b) u = Concat<axis=-1>(n, a) "
SUM = "v = Mul(h, c) w = Mul(u, s) y = Add(v, w) "


def rotation(body: str, heads: int = 2, size: int = 6, length: str = "l", opset: int = 17) -> Model:
    return parse(
        f"(float[n,{length},{heads * size}] x, float[1,{length},1] positions)"
        f" => (float[n,{heads},{length},{size}] y) {{ {body} }}",
        opset,
        split=np.array([0, 0, heads, size]), one=np.array([1]), zero=np.array([0]),
        many=np.array([2, 1, 1, 1]),
        half=np.array([size // 2]), back=np.array([-(size // 2)]), last=np.array([3]),
        minus=np.array([-1]), end=np.array([2**63 - 1]), halves=np.array([size // 2] * 2),
        frequencies=(0.5 ** np.arange(size // 2)).astype(np.float32),
    )  # fmt: skip


def feeds(width: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    positions = np.arange(LENGTH, dtype=np.float32).reshape(1, LENGTH, 1)
    return {"x": rng.standard_normal((2, LENGTH, width), np.float32), "positions": positions}


@pytest.mark.parametrize("halves", HALVES)
@pytest.mark.parametrize(
    "ending", [SUM, "w = Mul(s, u) v = Mul(c, h) y = Add(w, v) "], ids=["usual", "other way round"]
)
def test_every_way_to_write_it(halves: str, ending: str) -> None:
    model = rotation(HEADS + ANGLES + HALVES[halves] + TURN + ending)
    after, change = apply(FUSE, model, feeds(12), known=False)
    assert change.rewrites == 1, change.reasons
    ops = after.op_counts()
    assert ops["com.microsoft::RotaryEmbedding"] == 1
    assert not {"Neg", "Add", "Split"} & ops.keys()


def test_heads_in_front_need_no_transposition() -> None:
    body = ANGLES + "h = Relu(z) " + HALVES["slices"] + TURN + SUM
    model = rotation(body)
    text = "(float[n,2,l,6] z, float[1,l,1] positions) => (float[n,2,l,6] y)"
    constants = {k: v.const_value.numpy() for k, v in model.ir.graph.initializers.items()}  # type: ignore[union-attr]
    front = parse(f"{text} {{ {body} }}", **constants)
    rng = np.random.default_rng(0)
    given_ = {"z": rng.standard_normal((2, 2, LENGTH, 6), np.float32)}
    both = {**given_, "positions": feeds(12)["positions"]}
    after, change = apply(FUSE, front, both, known=False)
    assert change.rewrites == 1, change.reasons
    assert "Transpose" not in after.op_counts()


def test_positions_are_made_once_and_constant_where_sizes_are() -> None:
    twice = HEADS + ANGLES + HALVES["slices"] + TURN + SUM.replace("y =", "y0 =")
    again = (
        "a2 = Slice(y0, zero, half, last) b2 = Slice(y0, half, end, last) n2 = Neg(b2) "
        "u2 = Concat<axis=-1>(n2, a2) v2 = Mul(y0, c) w2 = Mul(u2, s) y = Add(v2, w2)"
    )
    after, change = apply(FUSE, rotation(twice + again), feeds(12), known=False)
    assert change.rewrites == 2
    assert after.op_counts()["CumSum"] == 1
    known = rotation(HEADS + ANGLES + HALVES["slices"] + TURN + SUM, length=str(LENGTH))
    fixed = known.clone()
    fixed.ir.graph.inputs[0].shape = ir.Shape([2, LENGTH, 12])
    after, change = FUSE.apply(fixed)
    assert change.rewrites == 1
    assert "CumSum" not in after.op_counts()
    assert difference(answers(known, feeds(12)), answers(after, feeds(12))) < 1e-5


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from(sorted(HALVES)))
def test_heads_and_sizes_are_read_from_the_graph(heads: int, half: int, halves: str) -> None:
    model = rotation(HEADS + ANGLES + HALVES[halves] + TURN + SUM, heads, 2 * half)
    _, change = apply(FUSE, model, feeds(heads * 2 * half, heads))
    assert change.rewrites == 1, change.reasons


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("t = Concat<axis=-1>(f, f)", "g = Neg(f) t = Concat<axis=-1>(f, g)", "halves"),
        ("y = Add(v, w)", "v2 = Relu(v) x2 = Add(v, w) y = Sub(x2, v2)", "'v2' reads a part"),
        ("c = Unsqueeze(c0, one)", "c1 = Unsqueeze(c0, one) c = Expand(c1, many)", "all rows"),
    ],
)
def test_what_is_left_alone_is_told(old: str, new: str, why: str) -> None:
    body = HEADS + ANGLES + HALVES["slices"] + TURN + SUM
    assert old in body
    model = rotation(body.replace(old, new))
    after, change = FUSE.apply(model)
    assert after is model
    assert why in change.reasons[0]


def test_older_opsets_write_its_angles_in_other_ways() -> None:
    body = HEADS + ANGLES.replace("c = Unsqueeze(c0, one) s = Unsqueeze(s0, one) ", "")
    angles = "c = Unsqueeze<axes=[1]>(c0) s = Unsqueeze<axes=[1]>(s0) "
    model = rotation(body + angles + HALVES["slices"] + TURN + SUM, opset=12)
    after, change = FUSE.apply(model)
    assert after is model
    assert "it needs opset 13, the model has 12" in change.reasons[0]
    assert change.missed[0].blocking == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [("u = Concat<axis=-1>(n, a)", "u = Concat<axis=-1>(a, n)"), ("n = Neg(b)", "n = Neg(a)")],
)
def test_another_turn_is_no_rotation(old: str, new: str) -> None:
    body = HEADS + ANGLES + HALVES["slices"] + TURN + SUM
    assert old in body
    assert not FUSE.apply(rotation(body.replace(old, new)))[1].changed
