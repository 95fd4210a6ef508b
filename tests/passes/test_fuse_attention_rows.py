"""Attention whose rows and heads are one dimension, and what is added to its scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_attention import FuseAttention
from zoo.graphs import apply, parse

FUSE = FuseAttention()
ROWS, QUERIES, KEYS, HEADS, SIZE = 3, 4, 5, 2, 4
WIDE = HEADS * SIZE
LOWEST = float(np.finfo(np.float32).min)
SIDES = (
    "qa = Reshape(q, split) qb = Transpose<perm=[0,2,1,3]>(qa) qh = Reshape(qb, q_rows) "
    "ka = Reshape(k, split) kb = Transpose<perm=[0,2,3,1]>(ka) kt = Reshape(kb, k_rows) "
    "va = Reshape(v, split) vb = Transpose<perm=[0,2,1,3]>(va) vh = Reshape(vb, v_rows) "
    "m = MatMul(qh, kt) s = Mul(m, factor) "
)
OUT = (
    "o = MatMul(p, vh) oa = Reshape(o, apart) ob = Transpose<perm=[0,2,1,3]>(oa) "
    "y = Reshape(ob, merge) "
)
CONSTANTS: Mapping[str, np.ndarray | np.generic] = {
    "split": np.array([0, 0, HEADS, SIZE]), "merge": np.array([0, 0, WIDE]),
    "q_rows": np.array([-1, QUERIES, SIZE]), "k_rows": np.array([-1, SIZE, KEYS]),
    "v_rows": np.array([-1, KEYS, SIZE]), "apart": np.array([-1, HEADS, QUERIES, SIZE]),
    "factor": np.float32(0.5), "zero": np.float32(0), "lowest": np.float32(LOWEST),
    "low": np.float32(-1e4), "minus": np.float32(-2), "two": np.float32(2),
    "heads_once": np.array([1, HEADS, 1, 1]), "one": np.array([1]), "one_two": np.array([1, 2]),
    "all_rows": np.array([-1, QUERIES, KEYS]), "all_keys": np.array([-1, 1, KEYS]),
    "slopes": np.array([[0.5], [0.25]], np.float32),
}  # fmt: skip


def graph(body: str, inputs: str = "") -> Model:
    text = (
        f"(float[n,{QUERIES},{WIDE}] q, float[n,{KEYS},{WIDE}] k, float[n,{KEYS},{WIDE}] v{inputs})"
        f" => (float[n,{QUERIES},{WIDE}] y) {{ {body} }}"
    )
    return parse(text, **{name: array for name, array in CONSTANTS.items() if name in body})


def feeds(model: Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for spec in model.signature.inputs:
        shape = [ROWS if isinstance(dim, str) else dim for dim in spec.shape or ()]
        if spec.dtype == "bool":
            found[spec.name] = np.arange(KEYS) < rng.integers(1, KEYS + 1, [*shape[:-1], 1])
        else:
            found[spec.name] = rng.standard_normal(shape).astype(np.float32)
    return found


FULL = f", float[n,{QUERIES},{KEYS}] added"
MASKS = {
    "none": ("p = Softmax<axis=-1>(s) ", ""),
    "expanded for all heads": (
        "a = Unsqueeze(added, one) b = Expand(a, heads_once) c = Reshape(b, all_rows) "
        "t = Add(s, c) p = Softmax<axis=-1>(t) ",
        FULL,
    ),
    "tiled for all heads": (
        "a = Unsqueeze(added, one) b = Tile(a, heads_once) c = Reshape(b, all_rows) "
        "t = Add(c, s) p = Softmax<axis=-1>(t) ",
        FULL,
    ),
    "of each head": (
        "a = Unsqueeze(added, one) b = Mul(a, slopes) c = Reshape(b, all_keys) "
        "t = Add(s, c) p = Softmax<axis=-1>(t) ",
        f", float[n,{KEYS}] added",
    ),
    "shared by all": ("t = Add(s, added) p = Softmax<axis=-1>(t) ", f", float[1,1,{KEYS}] added"),
    "keys": (
        "a = Unsqueeze(kept, one_two) b = Expand(a, heads_once) c = Reshape(b, all_keys) "
        "w = Where(c, zero, lowest) t = Add(s, w) p = Softmax<axis=-1>(t) ",
        f", bool[n,{KEYS}] kept",
    ),
    "written over": (
        "a = Unsqueeze(kept, one_two) b = Expand(a, heads_once) c = Reshape(b, all_keys) "
        "t = Where(c, s, lowest) p = Softmax<axis=-1>(t) ",
        f", bool[n,{KEYS}] kept",
    ),
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_rows_and_heads_in_one(mask: str) -> None:
    body, inputs = MASKS[mask]
    model = graph(SIDES + body + OUT, inputs)
    after, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons
    ops = after.op_counts()
    assert ops["com.microsoft::MultiHeadAttention"] == 1
    assert not {"Softmax", "MatMul", "Transpose", "Tile"} & ops.keys()
    assert ("Expand" in ops) == (mask in ("of each head", "shared by all"))  # to all queries


def test_the_mask_of_keys_stays_one() -> None:
    """Two numbers per row, not one per query as well."""
    body, inputs = MASKS["keys"]
    model = graph(SIDES + body + OUT, inputs)
    after, _ = apply(FUSE, model, feeds(model))
    (node,) = (node for node in after.nodes() if node.op_type == "MultiHeadAttention")
    assert len(node.inputs) == 5
    assert node.inputs[4] is not None


@pytest.mark.parametrize(
    "scores",
    [
        "t = Add(s, added) u = Mul(t, two) ",
        "t = Where(kept, s, lowest) u = Mul(t, factor) ",
        "t = Sub(s, added) u = Identity(t) ",
        "r = Sub(s, added) t = Mul(r, two) u = Add(t, added) ",
        "r = Add(s, added) t = Mul(r, minus) u = Add(t, added) ",
    ],
)
def test_a_scale_behind_what_is_added_scales_both(scores: str) -> None:
    inputs = f", bool[1,{QUERIES},{KEYS}] kept" if "kept" in scores else ""
    inputs += f", float[1,{QUERIES},{KEYS}] added" if "added" in scores else ""
    model = graph(SIDES + scores.replace("Identity(t)", "Add(t, zero)") + TAIL, inputs)
    _, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons


TAIL = "p = Softmax<axis=-1>(u) " + OUT


def test_results_that_are_split_again_need_no_size_in_between() -> None:
    """As DeBERTa's: with a free length, [-1, length, size] is no constant shape."""
    body = (
        "qa = Reshape(q, split) qb = Transpose<perm=[0,2,1,3]>(qa) l = Shape<start=1, end=2>(q) "
        "to = Concat<axis=0>(any, l, size) qh = Reshape(qb, to) "
        "ka = Reshape(k, split) kb = Transpose<perm=[0,2,1,3]>(ka) kh = Reshape(kb, to) "
        "va = Reshape(v, split) vb = Transpose<perm=[0,2,1,3]>(va) vh = Reshape(vb, to) "
        "kt = Transpose<perm=[0,2,1]>(kh) m = MatMul(qh, kt) p = Softmax<axis=-1>(m) "
        "o = MatMul(p, vh) back = Concat<axis=0>(any, heads, l, size) oa = Reshape(o, back) "
        "ob = Transpose<perm=[0,2,1,3]>(oa) y = Reshape(ob, merge) "
    )
    model = parse(
        f"(float[n,l,{WIDE}] q, float[n,l,{WIDE}] k, float[n,l,{WIDE}] v)"
        f" => (float[n,l,{WIDE}] y) {{ {body} }}",
        split=np.array([0, 0, HEADS, SIZE]), merge=np.array([0, 0, WIDE]), any=np.array([-1]),
        size=np.array([SIZE]), heads=np.array([HEADS]),
    )  # fmt: skip
    after, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons
    assert after.op_counts() == {"com.microsoft::MultiHeadAttention": 1}


def test_without_that_the_result_is_left_alone() -> None:
    body = (
        "qa = Reshape(q, split) qb = Transpose<perm=[0,2,1,3]>(qa) l = Shape<start=1, end=2>(q) "
        "to = Concat<axis=0>(any, l, size) qh = Reshape(qb, to) kt = Transpose<perm=[0,2,1]>(qh) "
        "m = MatMul(qh, kt) p = Softmax<axis=-1>(m) y = MatMul(p, qh) "
    )
    model = parse(
        f"(float[n,l,{WIDE}] q) => (float[r,l,{SIZE}] y) {{ {body} }}",
        split=np.array([0, 0, HEADS, SIZE]), any=np.array([-1]), size=np.array([SIZE]),
    )  # fmt: skip
    after, change = apply(FUSE, model, feeds(model))
    assert not change.changed
    assert "its sizes cannot be constants" in change.reasons[0]
    assert after.op_counts() == model.op_counts()


@pytest.mark.parametrize("queries", [1, QUERIES])
def test_length_may_stand_in_front(queries: int) -> None:
    """As torch's attention: [length, rows, wide]; one query leaves no length to go by."""
    side = "{0}a = Reshape({0}, {0}_split) {0}h = Transpose<perm=[1,0,2]>({0}a) "
    body = "".join(side.format(name) for name in "qkv") + (
        "kt = Transpose<perm=[0,2,1]>(kh) m = MatMul(qh, kt) p = Softmax<axis=-1>(m) "
        "o = MatMul(p, vh) oa = Transpose<perm=[1,0,2]>(o) y = Reshape(oa, q_merge) "
    )
    model = parse(
        f"(float[{queries},n,{WIDE}] q, float[{KEYS},n,{WIDE}] k, float[{KEYS},n,{WIDE}] v)"
        f" => (float[{queries},n,{WIDE}] y) {{ {body} }}",
        q_split=np.array([queries, -1, SIZE]), k_split=np.array([KEYS, -1, SIZE]),
        v_split=np.array([KEYS, -1, SIZE]), q_merge=np.array([queries, -1, WIDE]),
    )  # fmt: skip
    after, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons
    (node,) = (node for node in after.nodes() if node.op_type == "MultiHeadAttention")
    assert node.attributes["num_heads"].as_int() == HEADS


def four(body: str, inputs: str, rows: str = "n") -> Model:
    """Scores of four dimensions."""
    text = (
        "qa = Reshape(q, split) qh = Transpose<perm=[0,2,1,3]>(qa) ka = Reshape(k, k_split) "
        "kt = Transpose<perm=[0,2,3,1]>(ka) m = MatMul(qh, kt) "
        f"{body} va = Reshape(v, k_split) vh = Transpose<perm=[0,2,1,3]>(va) "
        "o = MatMul(p, vh) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, merge) "
    )
    wide = SIZE if "once" in body else WIDE
    return parse(
        f"(float[{rows},{QUERIES},{WIDE}] q, float[{rows},{KEYS},{wide}] k, "
        f"float[{rows},{KEYS},{wide}] v{inputs}) => (float[r,{QUERIES},{WIDE}] y) {{ {text} }}",
        split=np.array([0, 0, HEADS, SIZE]), merge=np.array([0, 0, WIDE]),
        k_split=np.array([0, 0, wide // SIZE, SIZE]), five=np.array([2, 2, HEADS, QUERIES, KEYS]),
        back=np.array([4, HEADS, QUERIES, KEYS]), once=np.float32(0.5),
        each=np.array([0.5, 0.25], np.float32).reshape(2, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "inputs", "rows", "why", "blocking"),
    [
        (
            "w = Exp(added) t = Add(m, w) p = Softmax<axis=-1>(t)",
            f", float[r,1,{QUERIES},{KEYS}] added",
            "n",
            "whether what is added to its scores has as many rows as they is not known",
            "w",
        ),
        (
            "w = Exp(added) t = Add(m, w) p = Softmax<axis=-1>(t)",
            f", float[2,1,{QUERIES},{KEYS}] added",
            "1",
            "what is added to its 1 rows is of 2",
            "w",
        ),
        (
            "a = Reshape(m, five) w = Exp(added) t = Add(a, w) u = Reshape(t, back) "
            "p = Softmax<axis=-1>(u)",
            f", float[2,1,{QUERIES},{KEYS}] added",
            "4",
            "what is added to its scores differs by groups of rows or heads",
            "w",
        ),
        (
            "t = Mul(m, each) w = Exp(added) u = Add(t, w) p = Softmax<axis=-1>(u)",
            f", float[1,1,{QUERIES},{KEYS}] added",
            "n",
            "no product with one scale is behind Add 'u'",
            "u",
        ),
        (
            "t = Mul(m, once) p = Softmax<axis=-1>(t)",
            "",
            "n",
            "queries of (n, 2), keys of (n, 1), values of (n, 1)",
            "",
        ),
    ],
)
def test_what_is_left_alone_is_told(
    body: str, inputs: str, rows: str, why: str, blocking: str
) -> None:
    model = four(body, inputs, rows)
    after, change = FUSE.apply(model)
    (missed,) = change.missed
    assert (why in missed.why, missed.blocking) == (True, blocking), missed
    assert after.op_counts() == model.op_counts()


@pytest.mark.parametrize("fill", [-np.inf, LOWEST, -1e5])
def test_rows_of_clamped_scores_that_attend_to_nothing_get_equal_weights(fill: float) -> None:
    """As XGLM's, whatever it is that is added."""
    body = SIDES + "w = Where(kept, zero, fill) t = Add(s, w) u = Max(t, lowest) " + TAIL
    text = (
        f"(float[2,{QUERIES},{WIDE}] q, float[2,{KEYS},{WIDE}] k, float[2,{KEYS},{WIDE}] v, "
        f"bool[4,{QUERIES},{KEYS}] kept) => (float[2,{QUERIES},{WIDE}] y) {{ {body} }}"
    )
    given = {name: array for name, array in CONSTANTS.items() if name in body}
    made = parse(text, **given, fill=np.float32(fill))
    rng = np.random.default_rng(0)
    shapes = {"q": (2, QUERIES, WIDE), "k": (2, KEYS, WIDE), "v": (2, KEYS, WIDE)}
    values = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    kept = np.zeros((4, QUERIES, KEYS), bool)
    kept[:, 1:, 0] = kept[1, 2, 3] = True
    _, change = apply(FUSE, made, {**values, "kept": kept})  # compares the outputs
    assert change.rewrites == 1, change.reasons


def test_a_clamp_of_real_scores_is_told() -> None:
    model = graph(SIDES + "u = Max(s, low) " + TAIL)
    (missed,) = FUSE.apply(model)[1].missed
    assert (missed.why, missed.blocking) == ("Max 'u' stands before it", "u")


def test_a_buffer_of_masks_that_is_cut_is_as_large_as_the_scores() -> None:
    """``min(9, l)`` queries and keys: as GPT-Neo's, that would not run on more."""
    side = "{0}a = Reshape({0}, split) {0}h = Transpose<perm=[0,2,1,3]>({0}a) "
    body = "".join(side.format(name) for name in "qkv") + (
        "kt = Transpose<perm=[0,1,3,2]>(kh) m = MatMul(qh, kt) l = Shape<start=1, end=2>(q) "
        "c = Slice(all, begin, l, two_axis) d = Slice(c, begin, l, three_axis) "
        "t = Where(d, m, lowest) p = Softmax<axis=-1>(t) o = MatMul(p, vh) "
        "ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, merge) "
    )
    model = parse(
        f"(float[n,l,{WIDE}] q, float[n,l,{WIDE}] k, float[n,l,{WIDE}] v)"
        f" => (float[n,l,{WIDE}] y) {{ {body} }}",
        split=np.array([0, 0, HEADS, SIZE]), merge=np.array([0, 0, WIDE]), begin=np.array([0]),
        all=np.tril(np.ones((1, 1, 9, 9), bool)), two_axis=np.array([2]),
        three_axis=np.array([3]), lowest=np.float32(LOWEST),
    )  # fmt: skip
    _, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons


PLAIN = "s = MatMul(q, k) "
MASKED = "u1 = Where(m1, zero, low) u2 = Where(m2, zero, low) t = Add(s, u1) u = Add(t, u2) "


def plain(body: str, low: float) -> Model:
    return parse(
        "(float[2,2,3,4] q, float[2,2,4,3] k, float[2,2,3,4] v, bool[2,1,1,3] m1, "
        f"bool[2,1,1,3] m2) => (float[2,2,3,4] y) {{ {PLAIN}{body} y = MatMul(p, v) }}",
        zero=np.float32(0),
        low=np.float32(low),
        nothing=np.float32(0),
        scale=np.float32(1e-9),
    )


def masks(first: list[list[int]], second: list[list[int]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 2, 3, 4), "k": (2, 2, 4, 3), "v": (2, 2, 3, 4)}
    found = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    rows = {"m1": first, "m2": second}
    return found | {name: np.array(m, bool).reshape(2, 1, 1, 3) for name, m in rows.items()}


@pytest.mark.parametrize("low", [LOWEST, -1e9])
@pytest.mark.parametrize("second", [[[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [1, 0, 1]]])
def test_masks_that_overflow_together_are_clamped(low: float, second: list[list[int]]) -> None:
    model = plain(MASKED + "c = Max(u, low) p = Softmax(c)", low)
    _, change = apply(FUSE, model, masks([[1, 1, 0], [0, 0, 0]], second))
    assert change.rewrites == 1, change.reasons


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("u1 = Where(m1, zero, low) u = Add(s, u1) c = Max(u, low) d = Mul(c, scale) "
         "p = Softmax(d)", "Max 'c' stands before it"),
        ("d = Mul(s, nothing) p = Softmax(d)", "its scale is 0"),
        ("d = Div(s, nothing) p = Softmax(d)", "Div 'd' stands before it"),
    ],
)  # fmt: skip
def test_scales_that_no_attention_has(body: str, why: str) -> None:
    after, change = FUSE.apply(plain(body, -1e9))
    assert after.op_counts()["Softmax"] == 1
    assert why in change.reasons[0]
