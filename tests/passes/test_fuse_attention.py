from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_attention import FuseAttention
from zoo.graphs import apply, parse

FUSE = FuseAttention()
BATCH, QUERIES, KEYS = 2, 3, 5
LOWEST = float(np.finfo(np.float32).min)

Q = "qa = Reshape(q, split) qh = Transpose<perm=[0,2,1,3]>(qa) "
V = "va = Reshape(v, split) vh = Transpose<perm=[0,2,1,3]>(va) "
KEY_SIDES = {
    "one transposition": "ka = Reshape(k, split) kt = Transpose<perm=[0,2,3,1]>(ka) ",
    "two": "ka = Reshape(k, split) kb = Transpose<perm=[0,2,1,3]>(ka) "
    "kt = Transpose<perm=[0,1,3,2]>(kb) ",
    "as one batch of three dimensions": "ka = Reshape(k, split) kb = Transpose<perm=[0,2,1,3]>(ka) "
    "kc = Reshape(kb, three) kd = Transpose<perm=[0,2,1]>(kc) kt = Reshape(kd, four) ",
}
SCALES = {
    "product": "m = MatMul(qh, kt) s = Mul(m, factor) ",
    "quotient": "m = MatMul(qh, kt) s = Div(m, divisor) ",
    "both sides": "qs = Mul(qh, root) ks = Mul(root, kt) s = MatMul(qs, ks) ",
    "queries": "qs = Mul(factor, qh) s = MatMul(qs, kt) ",
}
MASKS = {
    "none": "p = Softmax<axis=-1>(s) ",
    "scores": "t = Add(s, added) p = Softmax<axis=3>(t) ",
    "shared by heads": "t = Add(added, s) p = Softmax<axis=-1>(t) ",
    "keys": "kept = Unsqueeze(mask, one_two) w = Where(kept, zero, lowest) t = Add(s, w) "
    "p = Softmax<axis=-1>(t) ",
    "guarded": "t = Add(s, added) r = Softmax<axis=-1>(t) n = IsNaN(r) p = Where(n, zero, r) ",
}
OUT = "o = MatMul(p, vh) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, merge) "


def graph(body: str, heads: int = 2, size: int = 4, *, rows: str = "n") -> Model:
    wide = heads * size
    keys = KEYS if "three" in body else "t"
    inputs = (
        f"float[{rows},l,{wide}] q, float[{rows},{keys},{wide}] k, float[{rows},{keys},{wide}] v"
    )
    if "added" in body:
        inputs += f", float[{rows},{heads if 'Add(s, added)' in body else 1},l,{keys}] added"
    if "mask" in body:
        inputs += f", bool[{rows},{keys}] mask"
    scale = np.float32(size**-0.5)
    return parse(
        f"({inputs}) => (float[{rows},l,{wide}] y) {{ {body} }}",
        split=np.array([0, 0, heads, size]), merge=np.array([0, 0, wide]),
        three=np.array([-1, KEYS, size]), four=np.array([-1, heads, size, KEYS]),
        factor=scale, divisor=1 / scale, root=np.sqrt(scale), zero=np.float32(0),
        lowest=np.float32(LOWEST), one_two=np.array([1, 2]),
    )  # fmt: skip


def feeds(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = {"n": BATCH, "l": QUERIES, "t": KEYS}
    found: dict[str, np.ndarray] = {}
    for spec in model.signature.inputs:
        shape = [known[dim] if isinstance(dim, str) else dim for dim in spec.shape or ()]
        if spec.dtype == "bool":
            found[spec.name] = np.arange(KEYS) < rng.integers(1, KEYS + 1, (BATCH, 1))
        else:
            found[spec.name] = rng.standard_normal(shape).astype(np.float32)
    return found


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("key", KEY_SIDES)
def test_every_way_to_write_it(key: str, scale: str, mask: str) -> None:
    body = Q + KEY_SIDES[key] + V + SCALES[scale] + MASKS[mask] + OUT
    model = graph(body)
    after, change = apply(FUSE, model, feeds(model))
    assert change.rewrites == 1, change.reasons
    ops = after.op_counts()
    assert ops["com.microsoft::MultiHeadAttention"] == 1
    assert not {"Softmax", "MatMul", "Mul", "Div"} & ops.keys()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from(sorted(MASKS)))
def test_heads_and_sizes_are_read_from_the_graph(heads: int, size: int, mask: str) -> None:
    body = Q + KEY_SIDES["one transposition"] + V + SCALES["product"] + MASKS[mask] + OUT
    model = graph(body, heads, size)
    after, change = apply(FUSE, model, feeds(model, heads))
    assert change.rewrites == 1, change.reasons
    (node,) = (n for n in after.nodes() if n.op_type == "MultiHeadAttention")
    assert node.attributes["num_heads"].as_int() == heads
    assert "scale" not in node.attributes  # the operator's own


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("p = Softmax<axis=-1>(s)", "p = Softmax<axis=2>(s)", "not over the last of three or four"),
        ("o = MatMul(p, vh)", "e = Exp(p) o = MatMul(p, vh)", "read elsewhere too"),
        ("o = MatMul(p, vh)", "e = Exp(p) o = MatMul(e, vh)", "go to Exp, not to MatMul"),
        (
            "m = MatMul(qh, kt) s = Mul(m, factor)",
            "m = MatMul(qh, kt) s = Exp(m)",
            "Exp 's' stands",
        ),
    ],
)
def test_what_is_left_alone_is_told(old: str, new: str, why: str) -> None:
    body = Q + KEY_SIDES["one transposition"] + V + SCALES["product"] + MASKS["none"] + OUT
    assert old in body
    model = graph(body.replace(old, new))
    after, change = apply(FUSE, model, feeds(model))
    assert not change.changed
    assert why in change.reasons[0]
    assert after.op_counts()["Softmax"] == 1
