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
    "written over": "kept = Unsqueeze(mask, one_two) t = Where(kept, s, low) "
    "p = Softmax<axis=-1>(t) ",
    "left out": "kept = Unsqueeze(mask, one_two) out = Not(kept) t = Where(out, low, s) "
    "p = Softmax<axis=-1>(t) ",
    "one row for all queries": "kept = Unsqueeze(mask, one_two) whole = Cast<to=1>(kept) "
    "off = Sub(one, whole) w = Mul(off, low) t = Add(s, w) p = Softmax<axis=-1>(t) ",
    "two": "kept = Unsqueeze(mask, one_two) t = Where(kept, s, lowest) u = Add(t, added) "
    "p = Softmax<axis=-1>(u) ",
    "guarded": "t = Add(added, s) r = Softmax<axis=-1>(t) n = IsNaN(r) p = Where(n, zero, r) ",
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
        lowest=np.float32(LOWEST), low=np.float32(-1e4), one=np.float32(1),
        one_two=np.array([1, 2]),
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
    assert not {"Softmax", "MatMul", "Div"} & ops.keys()
    assert ops.get("Mul", 0) == ("Mul" in MASKS[mask])


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


@pytest.mark.parametrize("queries", [3, "l"])
def test_queries_that_attend_to_nothing_stay_zero(queries: int | str) -> None:
    body = (
        Q + KEY_SIDES["one transposition"] + V + SCALES["product"] + "w = Where(kept, zero, inf) "
        "t = Add(s, w) r = Softmax<axis=-1>(t) n = IsNaN(r) p = Where(n, zero, r) " + OUT
    )
    model = parse(
        f"(float[n,{queries},8] q, float[n,t,8] k, float[n,t,8] v, bool[n,1,{queries},t] kept)"
        f" => (float[n,{queries},8] y) {{ {body} }}",
        split=np.array([0, 0, 2, 4]), merge=np.array([0, 0, 8]), factor=np.float32(0.5),
        zero=np.float32(0), inf=np.float32(-np.inf),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((2, 3, 8)).astype(np.float32) for name in "qkv"}
    given["kept"] = np.tril(np.ones((3, 3), bool))[None, None].repeat(2, axis=0)
    given["kept"][1, 0, 0] = given["kept"][1, 0, :, 0] = False  # padding on the left
    after, change = apply(FUSE, model, given)  # compares the outputs
    assert change.rewrites == 1, change.reasons
    assert after.op_counts()["Where"] == 2


def test_a_query_may_attend_to_nothing_in_one_head_only() -> None:
    body = Q + KEY_SIDES["one transposition"] + V + SCALES["product"]
    body += "t = Add(s, added) r = Softmax<axis=-1>(t) n = IsNaN(r) p = Where(n, zero, r) " + OUT
    model = graph(body)
    _, change = apply(FUSE, model, feeds(model))
    assert "may differ by head" in change.reasons[0]


@pytest.mark.parametrize(
    ("planted", "blocking", "why"),
    [
        ("z = Identity(p)", "z", "its probabilities are read elsewhere too"),
        ("", "p", "its probabilities are an output of the model"),
    ],
)
def test_what_reads_the_probabilities_is_told(planted: str, blocking: str, why: str) -> None:
    body = Q + KEY_SIDES["two"] + V + SCALES["product"] + MASKS["none"] + OUT + planted
    model = graph(body)
    name = "z" if planted else "p"
    model.ir.graph.outputs.extend(
        value for node in model.ir.graph for value in node.outputs if value.name == name
    )
    (missed,) = FUSE.apply(model)[1].missed
    assert (missed.kind, missed.why, missed.blocking) == ("Attention", why, blocking)


@pytest.mark.parametrize("mask", ["none", "shared by heads", "keys"])
def test_products_of_three_dimensions_with_scores_of_four(mask: str) -> None:
    """As tf2onnx writes Keras' attention."""
    body = (
        Q + KEY_SIDES["two"] + V + "q3 = Reshape(qh, rows) k3 = Reshape(kt, turned) "
        "v3 = Reshape(vh, rows) m3 = MatMul(q3, k3) m = Reshape(m3, scores) s = Mul(m, factor) "
        + MASKS[mask] + "p3 = Reshape(p, flat) o3 = MatMul(p3, v3) o = Reshape(o3, apart) "
        "ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, merge) "
    )  # fmt: skip
    told = "float[n,1,5,5] added" if "added" in body else "bool[n,5] mask"
    model = parse(
        f"(float[n,5,8] q, float[n,5,8] k, float[n,5,8] v, {told}) => (float[n,5,8] y)"
        f"{{ {body} }}",
        split=np.array([0, 0, 2, 4]), merge=np.array([0, 0, 8]), rows=np.array([-1, 5, 4]),
        turned=np.array([-1, 4, 5]), scores=np.array([-1, 2, 5, 5]), flat=np.array([-1, 5, 5]),
        apart=np.array([-1, 2, 5, 4]), factor=np.float32(0.5), zero=np.float32(0),
        lowest=np.float32(LOWEST), one_two=np.array([1, 2]),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((2, 5, 8)).astype(np.float32) for name in "qkv"}
    given["added"] = rng.standard_normal((2, 1, 5, 5)).astype(np.float32)
    given["mask"] = np.arange(5) < np.array([[5], [3]])
    names = {spec.name for spec in model.signature.inputs}
    _, change = apply(FUSE, model, {k: v for k, v in given.items() if k in names})
    assert change.rewrites == 1, change.reasons


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("fill", [-1e4, -1e9, LOWEST])
def test_where_no_key_counts_written_over_scores_stay_equal(fill: float, queries: int) -> None:
    body = (
        Q + KEY_SIDES["two"] + V + SCALES["product"]
        + "t = Where(kept, s, fill) p = Softmax<axis=-1>(t) " + OUT
    )  # fmt: skip
    model = parse(
        f"(float[n,3,8] q, float[n,t,8] k, float[n,t,8] v, bool[n,1,{queries},t] kept)"
        f" => (float[n,3,8] y) {{ {body} }}",
        split=np.array([0, 0, 2, 4]), merge=np.array([0, 0, 8]), factor=np.float32(0.5),
        fill=np.float32(fill),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((2, 3, 8)).astype(np.float32) for name in "qkv"}
    given["kept"] = np.zeros((2, 1, queries, 3), bool)
    given["kept"][0, 0, 0, 1] = True
    _, change = apply(FUSE, model, given)  # compares the outputs
    assert change.rewrites == 1, change.reasons


def test_a_weak_number_that_is_written_over_and_added_to_is_refused() -> None:
    body = (
        Q + KEY_SIDES["two"] + V + SCALES["product"] + MASKS["two"].replace("lowest", "low") + OUT
    )
    _, change = FUSE.apply(graph(body))
    assert "takes a score's place, and something is added" in change.reasons[0]


def test_what_is_weighed_may_be_an_output() -> None:
    body = Q + KEY_SIDES["two"] + V + SCALES["product"] + MASKS["none"] + "y = MatMul(p, vh) "
    model = parse(
        f"(float[n,l,8] q, float[n,t,8] k, float[n,t,8] v) => (float[n,2,l,4] y) {{ {body} }}",
        split=np.array([0, 0, 2, 4]), factor=np.float32(0.5),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((2, 3, 8)).astype(np.float32) for name in "qkv"}
    _, change = apply(FUSE, model, given)
    assert change.rewrites == 1, change.reasons


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("s = MatMul(x, w) t = Add(s, b) y = Softmax<axis=-1>(t)", 0),
        ("k = Transpose<perm=[0, 2, 1]>(x) s = MatMul(x, k) y = Softmax<axis=-1>(s)", 1),
    ],
)
def test_a_softmax_of_no_scores_is_no_missed_attention(body: str, told: int) -> None:
    model = parse(
        f"(float[2,4,4] x) => (float[2,4,4] y) {{ {body} }}",
        w=np.eye(4, dtype=np.float32), b=np.ones(4, np.float32),
    )  # fmt: skip
    assert len(FUSE.apply(model)[1].missed) == told
