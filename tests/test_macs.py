"""Multiply-accumulates against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.macs import macs, macs_per_node
from onnxpress.model import Model
from onnxpress.sizing import sized
from zoo.graphs import parse

B, S, T, D, H = 2, 3, 5, 8, 2
"""Batch, queries, keys, width and heads."""
CONTRIB = "com.microsoft"


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def model(inputs: str, output: str, body: str, opset: int = 17, **weights: np.ndarray) -> Model:
    found = parse(f"({inputs}) => ({output}) {{ {body} }}", opset, 9, **weights)
    found.ir.graph.opset_imports[CONTRIB] = 1
    return found


SELF = f"float[{B},{S},{D}] x"
QKV = f"float[{B},{S},{D}] q, float[{B},{T},{D}] k, float[{B},{T},{D}] v"
CASES = {
    "einsum": (
        model("float[2,3,4] a, float[2,4,5] b", "float[2,3,5] y",
              'y = Einsum<equation="bij, bjk -> bik">(a, b)'),
        2 * 3 * 4 * 5,
    ),
    "einsum with dots": (
        model("float[7,2,3,4] a, float[2,4,5] b", "float[7,2,3,5] y",
              'y = Einsum<equation="...ij,...jk->...ik">(a, b)'),
        7 * 2 * 3 * 4 * 5,
    ),
    "matrix by vector": (
        model("float[3,4] a, float[4] b", "float[3] y", "y = MatMul(a, b)"), 3 * 4,
    ),
    "gemm, both transposed": (
        model("float[4,3] a", "float[3,5] y", "y = Gemm<transA=1, transB=1>(a, w)", w=zeros(5, 4)),
        3 * 4 * 5,
    ),
    "grouped convolution": (
        model("float[1,4,8,8] x", "float[1,6,4,4] y",
              "y = Conv<group=2, pads=[1,1,1,1], strides=[2,2]>(x, w)", w=zeros(6, 2, 3, 3)),
        6 * 4 * 4 * 2 * 9,
    ),
    "integer convolution": (
        model("uint8[1,4,8,8] x", "int32[1,6,6,6] y", "y = ConvInteger(x, w)",
              w=zeros(6, 4, 3, 3, dtype=np.uint8)),
        6 * 6 * 6 * 4 * 9,
    ),
    "quantised convolution": (
        model("uint8[1,4,8,8] x", "uint8[1,6,6,6] y",
              "y = QLinearConv(x, s, z, w, s, z, s, z)", s=np.float32(1), z=np.uint8(0),
              w=zeros(6, 4, 3, 3, dtype=np.uint8)),
        6 * 6 * 6 * 4 * 9,
    ),
    "quantised product": (
        model("uint8[3,4] x", "uint8[3,5] y", "y = QLinearMatMul(x, s, z, w, s, z, s, z)",
              s=np.float32(1), z=np.uint8(0), w=zeros(4, 5, dtype=np.uint8)),
        3 * 4 * 5,
    ),
    "lstm": (
        model("float[7,2,3] x", "float[7,2,2,5] y",
              'y = LSTM<hidden_size=5, direction="bidirectional">(x, w, r)',
              w=zeros(2, 20, 3), r=zeros(2, 20, 5)),
        7 * 2 * 2 * 20 * (3 + 5),
    ),
    "gru": (
        model("float[7,2,3] x", "float[7,1,2,5] y", "y = GRU<hidden_size=5>(x, w, r)",
              w=zeros(1, 15, 3), r=zeros(1, 15, 5)),
        7 * 2 * 15 * (3 + 5),
    ),
    "attention with its projections": (
        model(SELF, f"float[{B},{S},{D}] y", f"y = {CONTRIB}.Attention<num_heads={H}>(x, w, b)",
              w=zeros(D, 3 * D), b=zeros(3 * D)),
        B * S * D * 3 * D + 2 * B * S * S * D,
    ),
    "attention with narrow queries": (
        model(SELF, f"float[{B},{S},{D}] y",
              f"y = {CONTRIB}.Attention<num_heads={H}, qkv_hidden_sizes=[4,4,8]>(x, w, b)",
              w=zeros(D, 16), b=zeros(16)),
        B * S * D * 16 + B * S * S * (4 + 8),
    ),
    "attention of heads": (
        model(QKV, f"float[{B},{S},{D}] y",
              f"y = {CONTRIB}.MultiHeadAttention<num_heads={H}>(q, k, v)"),
        2 * B * S * T * D,
    ),
    "attention of packed heads": (
        model(f"float[{B},{S},{H},3,4] x", f"float[{B},{S},8] y",
              f"y = {CONTRIB}.MultiHeadAttention<num_heads={H}>(x)"),
        2 * B * S * S * 8,
    ),
    "quantised attention": (
        model(f"uint8[{B},{S},{D}] x", f"float[{B},{S},{D}] y",
              f"y = {CONTRIB}.QAttention<num_heads={H}>(x, w, b, s, s)",
              w=zeros(D, 3 * D, dtype=np.uint8), b=zeros(3 * D), s=np.float32(1)),
        B * S * D * 3 * D + 2 * B * S * S * D,
    ),
    "ONNX's own attention": (
        model(QKV, f"float[{B},{S},{D}] y",
              f"y = Attention<q_num_heads={H}, kv_num_heads={H}>(q, k, v)", 23),
        2 * B * S * T * D,
    ),
    "attention with shared keys": (
        model(f"float[{B},4,{S},8] q, float[{B},2,{T},8] k, float[{B},2,{T},6] v",
              f"float[{B},4,{S},6] y", "y = Attention(q, k, v)", 23),
        B * S * T * 4 * (8 + 6),
    ),
    "blocks of four bits": (
        model("float[3,32] x", "float[3,6] y",
              f"y = {CONTRIB}.MatMulNBits<K=32, N=6, bits=4, block_size=16>(x, w, s)",
              w=zeros(6, 2, 8, dtype=np.uint8), s=zeros(12)),
        3 * 32 * 6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name: str) -> None:
    found, expected = CASES[name]
    (node,) = found.ir.graph
    assert macs(node, sized(found)[0]) == expected


def test_through_shapes_that_a_graph_computes() -> None:
    body = (
        "s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axes) t = Concat<axis=0>(u, rest) "
        "r = Reshape(x, t) h = Transpose<perm=[0,2,1,3]>(r) k = Transpose<perm=[0,2,3,1]>(r) "
        "p = MatMul(h, k)"
    )
    found = model(
        "float[n,l,8] x", "float[a,b,c,d] p", body, zero=np.array(0), axes=np.array([0]),
        rest=np.array([-1, 2, 4]),
    )  # fmt: skip
    (product,) = (node for node in found.ir.graph if node.op_type == "MatMul")
    shapes, sizes = sized(found, {"l": (5,), "n": (3,)})
    assert sizes == {"n": 3, "l": 5}
    assert macs(product, shapes) == 3 * 2 * 5 * 5 * 4


def test_of_a_bert_layer() -> None:
    """Four projections, two halves of a block four times as wide, and the scores."""
    width, inner, tokens = 8, 32, 16
    body = (
        "q = MatMul(x, w) k = MatMul(x, w) v = MatMul(x, w) kt = Transpose<perm=[0,2,1]>(k) "
        "s = MatMul(q, kt) p = Softmax(s) c = MatMul(p, v) o = MatMul(c, w) u = MatMul(o, up) "
        "y = MatMul(u, down)"
    )
    found = model(
        f"float[n,l,{width}] x", f"float[n,l,{width}] y", body, w=zeros(width, width),
        up=zeros(width, inner), down=zeros(inner, width),
    )  # fmt: skip
    shapes, _ = sized(found, {"l": (tokens,)})
    total = sum(macs(node, shapes) or 0 for node in found.ir.graph)
    assert total == tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width


def test_unknown_sizes_are_left_out() -> None:
    found = model(
        "float[n,4] x", "float[a,b] y", "i = NonZero(x) t = Transpose(i) y = MatMul(t, i)"
    )
    assert macs_per_node(found) == {}
