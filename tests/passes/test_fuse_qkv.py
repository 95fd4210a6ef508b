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
SPLIT = "a = MatMul(x, w) b = Add(a, all) q, k, v = Split<axis=2>(b, thirds) "


def side(name: str, bias: str = "") -> str:
    product = f"p{name} = MatMul(x, w{name}) {name} = "
    return product + (f"Add(p{name}, {bias}) " if bias else f"Identity(p{name}) ")


def plain(name: str) -> str:
    return f"{name} = MatMul(x, w{name}) "


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
    ],
)
def test_what_is_left_alone_is_told(body: str, inputs: str, why: str) -> None:
    _, change = apply(FUSE, model(body, inputs), {"x": X})
    assert not change.changed
    assert why in change.reasons[0]
