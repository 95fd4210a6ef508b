from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpress.model import Model
from onnxpress.passes.fuse_qkv import FuseQkv
from zoo.graphs import apply

FUSE = FuseQkv()
WIDE, HEADS = 8, 2
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, WIDE)).astype(np.float32)
ALL = "a = MatMul(x, w) b = Add(a, all) "
SPLIT = "a = MatMul(x, w) b = Add(a, all) q, k, v = Split<axis=2>(b, thirds) "


def side(name: str, bias: str = "") -> str:
    product = f"p{name} = MatMul(x, w{name}) {name} = "
    return product + (f"Add(p{name}, {bias}) " if bias else f"Identity(p{name}) ")


def plain(name: str) -> str:
    return f"{name} = MatMul(x, w{name}) "


def each(select: str, shape: str = "") -> str:
    """The three parts, ``@`` for the number of each."""
    back = "{0} = Reshape({0}s, {1}) " if shape else "{0} = Identity({0}s) "
    parts = (select.replace("$", name).replace("@", f"i{i}") for i, name in enumerate("qkv"))
    return "".join(part + back.format(name, shape) for part, name in zip(parts, "qkv", strict=True))


PACKED = {
    "parts first": ALL + "r = Reshape(b, parts_heads) t = Transpose<perm=[2,0,1,3,4]>(r) "
    + each("$s = Gather<axis=0>(t, @) ", "wide"),
    "parts first, of size 1": ALL + "r = Reshape(b, parts_heads) "
    "t = Transpose<perm=[2,0,1,3,4]>(r) qp, kp, vp = Split<axis=0>(t, ones) "
    + each("$s = Squeeze($p, zero) ", "wide"),
    "parts within heads": ALL + "r = Reshape(b, heads_parts) qs, ks, vs = Split<axis=3>(r, ones) "
    + each("", "wide"),
    "heads moved twice": ALL + "r = Reshape(b, parts_heads) t = Transpose<perm=[2,0,3,1,4]>(r) "
    + each("$a = Gather<axis=0>(t, @) $s = Transpose<perm=[0,2,1,3]>($a) ", "wide"),
    "slices": ALL + "qs = Slice(b, zero, wide_end, axis) ks = Slice(b, wide_end, two_ends, axis) "
    "vs = Slice(b, two_ends, end, axis) " + each(""),
    "length first": "u = Transpose<perm=[1,0,2]>(x) a = MatMul(u, w) b = Add(a, all) "
    "r = Reshape(b, parts) t = Transpose<perm=[2,0,1,3]>(r) "
    + each("$a = Gather<axis=0>(t, @) $s = Transpose<perm=[1,0,2]>($a) "),
    "no bias, one reshape": "b = MatMul(x, w) r = Reshape(b, parts) "
    + each("$s = Gather<axis=2>(r, @) "),
}  # fmt: skip
INDICES = {
    "parts_heads": [0, 0, 3, HEADS, WIDE // HEADS], "heads_parts": [0, 0, HEADS, 3, WIDE // HEADS],
    "parts": [0, 0, 3, WIDE], "wide": [0, 0, WIDE], "ones": [1, 1, 1], "zero": [0], "axis": [2],
    "wide_end": [WIDE], "two_ends": [2 * WIDE], "end": [2**62],
    "i0": 0, "i1": 1, "i2": 2,
}  # fmt: skip


def model(body: str, inputs: str = "q, k, v", more: str = "") -> Model:
    header = '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>'
    text = (
        f"{header} graph (float[n,l,{WIDE}] x{more}) => (float[n,l,{WIDE}] y) {{ {body}"
        f"y = com.microsoft.MultiHeadAttention<num_heads={HEADS}>({inputs}) }}"
    )
    proto = onnx.parser.parse_model(text)
    weights = {name: RNG.standard_normal((WIDE, WIDE)) for name in ("wq", "wk", "wv")}
    weights |= {name: RNG.standard_normal(WIDE) for name in ("bq", "bk", "bv")}
    weights |= {"w": RNG.standard_normal((WIDE, 3 * WIDE)), "all": RNG.standard_normal(3 * WIDE)}
    weights["one"] = RNG.standard_normal(1)
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([WIDE] * 3), "thirds"))
    for name, numbers in INDICES.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers), name))
    return Model(ir.from_proto(proto))


@pytest.mark.parametrize(
    "body",
    [
        side("q", "bq") + side("k", "bk") + side("v", "bv"),
        plain("q") + plain("k") + plain("v"),
        side("q", "bq") + plain("k") + side("v", "bv"),
        side("q", "one") + plain("k") + side("v", "bv"),
        SPLIT,
    ],
)
def test_the_projections_move_inside(body: str) -> None:
    after, change = apply(FUSE, model(body), {"x": X})
    assert change.rewrites == 1, change.reasons
    assert after.op_counts() == {"com.microsoft::Attention": 1}


@pytest.mark.parametrize(
    ("body", "factor"),
    [
        (side("q", "bq") + side("k", "bk") + side("v", "bv"), 2.0),
        (plain("q") + plain("k") + plain("v"), 2.0),
        (SPLIT, 0.6),
        (SPLIT, 1.0),
    ],
)
def test_a_scale_of_its_own_becomes_a_part_of_the_queries(body: str, factor: float) -> None:
    """OpenVINO computes as if the scale were the usual one."""
    given = model(body)
    (node,) = (n for n in given.nodes() if n.op_type == "MultiHeadAttention")
    scale = factor / (WIDE / HEADS) ** 0.5
    node.attributes["scale"] = ir.AttrFloat32("scale", scale)
    after, change = apply(FUSE, given, {"x": X}, known=False)
    assert change.rewrites == 1
    (fused,) = after.nodes()
    assert "scale" not in fused.attributes


@pytest.mark.parametrize("body", PACKED)
def test_columns_may_be_selected_in_any_way(body: str) -> None:
    given = model(PACKED[body])
    after, change = apply(FUSE, given, {"x": X})
    assert change.rewrites == 1, change.reasons
    ops = after.op_counts()
    assert ops.pop("com.microsoft::Attention") == 1
    assert ops == ({"Transpose": 2} if body == "length first" else {})


def test_lengths_come_along() -> None:
    body = plain("q") + plain("k") + plain("v")
    given = model(body, "q, k, v, , mask", ", int32[n,l] mask")
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    after, change = apply(FUSE, given, {"x": X, "mask": mask})
    assert change.rewrites == 1
    assert after.op_counts() == {"com.microsoft::Attention": 1}


@pytest.mark.parametrize(
    ("body", "inputs", "why"),
    [
        (
            plain("q") + plain("k") + "z = Relu(x) ",
            "q, k, z",
            "one of them is not a product with a constant",
        ),
        (
            "e = Exp(x) q = MatMul(e, wq) " + plain("k") + plain("v"),
            "q, k, v",
            "they are not of one tensor",
        ),
        (plain("q") + plain("k"), "q, k, k", "another node reads one of them"),
        (plain("q") + plain("k") + plain("v"), "q, k, v, all", "it has a bias"),
        (
            "a = MatMul(x, wq) " + each("$s = Gather<axis=1>(a, zero) "),
            "q, k, v",
            "rows of their product are selected",
        ),
        (
            ALL
            + "r = Reshape(b, parts) h = Shape<start=1, end=2>(x) g = Squeeze(h) at = Sub(g, i2) "
            + each("$s = Gather<axis=2>(r, @) ").replace("(r, i1)", "(r, at)"),
            "q, k, v",
            "what is selected of their product is not constant",
        ),
        (
            PACKED["parts first"] + "z = Exp(t) ",
            "q, k, v",
            "another node reads one of them",
        ),
        (
            "e = Exp(w) " + PACKED["no bias, one reshape"].replace("x, w", "x, e"),
            "q, k, v",
            "one of them is not a product with a constant",
        ),
    ],
)
def test_what_is_left_alone_is_told(body: str, inputs: str, why: str) -> None:
    _, change = apply(FUSE, model(body, inputs), {"x": X})
    assert not change.changed
    assert why in change.reasons[0]
