"""Multiply-accumulates of a graph's linear operators.

Counted as they are written: a convolution's do not depend on the algorithm, a sparse weight's
zeros count, and so do padded tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.shapes import CONTRIB, Shapes
from onnxpress.sizing import sized
from onnxpress.values import STANDARD

Dims = tuple[int, ...]
Rule = Callable[["_Read"], int | None]


def macs_per_node(model: Model, free: int = 1) -> dict[str, int]:
    """Node name → MACs of the linear operators (their quantised forms included).

    Free dimensions of the inputs count as ``free``; nodes whose shapes stay unknown are left out.
    Subgraphs are left out too, since how often they run is unknown.
    """
    return {name: count for name, count in _counts(model, free).items() if count is not None}


def all_macs(model: Model, free: int = 1) -> dict[str, int] | None:
    """As ``macs_per_node``; None where it has to leave out a linear operator."""
    found = macs_per_node(model, free)
    return found if len(found) == sum(map(is_linear, model.nodes())) else None


def _counts(model: Model, free: int) -> dict[str, int | None]:
    """Name of every linear operator of the main graph → its MACs, None where not known."""
    shapes, _ = sized(model, free=free)
    return {
        node.name or f"node {index}": macs(node, shapes)
        for index, node in enumerate(model.ir.graph)
        if is_linear(node)
    }


def is_linear(node: ir.Node) -> bool:
    """Whether ``macs`` knows how to count ``node``."""
    return _key(node) in RULES


def macs(node: ir.Node, shapes: Shapes) -> int | None:
    """The multiply-accumulates of one run of ``node``; None where the sizes are not known.

    0 for operators that multiply no matrices.
    """
    rule = RULES.get(_key(node))
    return 0 if rule is None else rule(_Read(node, shapes))


def _key(node: ir.Node) -> tuple[str, str]:
    return "" if node.domain in STANDARD else node.domain, node.op_type


class _Read:
    """One node's sizes and attributes."""

    def __init__(self, node: ir.Node, shapes: Shapes) -> None:
        self._node, self._shapes = node, shapes

    def given(self, index: int) -> bool:
        return index < len(self._node.inputs) and self._node.inputs[index] is not None

    def dims(self, index: int) -> Dims | None:
        """The shape of an input that is all numbers; None elsewhere, and where there is none."""
        return self._dims(self._node.inputs[index]) if self.given(index) else None

    def made(self) -> Dims | None:
        """The shape of the first output."""
        return self._dims(self._node.outputs[0])

    def number(self, name: str, default: int = 0) -> int:
        return self._node.attributes.get_int(name, default)

    def numbers(self, name: str) -> list[int]:
        found = self._node.attributes.get(name)
        return [] if found is None else list(found.as_ints())

    def text(self, name: str) -> str:
        return self._node.attributes.get_string(name, "")

    @property
    def count(self) -> int:
        return len(self._node.inputs)

    def _dims(self, value: ir.Value | None) -> Dims | None:
        shape = self._shapes.shape(value)
        if shape is None:
            return None
        dims = tuple(dim for dim in shape if isinstance(dim, int) and dim >= 0)
        return dims if len(dims) == len(shape) else None


def _convolution(weight: int = 1) -> Rule:
    def rule(read: _Read) -> int | None:
        kernel, made = read.dims(weight), read.made()
        return None if kernel is None or made is None else math.prod(made) * math.prod(kernel[1:])

    return rule


def _transposed_convolution(read: _Read) -> int | None:
    data, kernel = read.dims(0), read.dims(1)
    return None if data is None or kernel is None else math.prod(data) * math.prod(kernel[1:])


def _product(read: _Read) -> int | None:
    left, made = read.dims(0), read.made()
    if left is None or made is None or not left:
        return None
    flipped = read.number("transA") and len(left) > 1
    return math.prod(made) * (left[-2] if flipped else left[-1])


def _blocks(read: _Read) -> int | None:
    """``MatMulNBits``, whose weight is packed."""
    left = read.dims(0)
    return None if left is None else math.prod(left[:-1]) * read.number("K") * read.number("N")


def _einsum(read: _Read) -> int | None:
    """Each multiplication of the sum over all indices at once, for two operands."""
    terms = read.text("equation").replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or read.count != 2:
        return None
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        dims = read.dims(index)
        if dims is None:
            return None
        head, dots, tail = term.partition("...")
        inner = len(dims) - len(head) - len(tail)
        # Dimensions behind the dots are counted from the last one: they broadcast.
        middle = [f".{inner - place}" for place in range(inner)] if dots else []
        letters = [*head, *middle, *tail]
        if len(letters) != len(dims):
            return None
        for letter, dim in zip(letters, dims, strict=True):
            sizes[letter] = max(sizes.get(letter, dim), dim)
    return math.prod(sizes.values())


def _recurrent(read: _Read) -> int | None:
    """W is [directions, gates · hidden, size] and R [directions, gates · hidden, hidden]."""
    data, weight, recurrence = read.dims(0), read.dims(1), read.dims(2)
    if data is None or weight is None or recurrence is None or len(data) != 3:
        return None
    return data[0] * data[1] * (math.prod(weight) + math.prod(recurrence))


def _scores(batch: int, queries: int, keys: int, wide: int) -> int:
    """Q · Kᵀ or P · V of all heads, which are ``wide`` together."""
    return batch * queries * keys * wide


def _packed_attention(past: int) -> Rule:
    """ONNX Runtime's Attention: x [batch, length, size] and one weight for Q, K and V."""

    def rule(read: _Read) -> int | None:
        data, weight = read.dims(0), read.dims(1)
        if data is None or weight is None or len(data) != 3 or len(weight) != 2:
            return None
        batch, length, size = data
        parts = read.numbers("qkv_hidden_sizes") or [weight[1] // 3] * 3
        keys = length
        if read.given(past):
            before = read.dims(past)
            if before is None or len(before) != 5:
                return None
            keys += before[3]
        scores = _scores(batch, length, keys, parts[0]) + _scores(batch, length, keys, parts[2])
        return batch * length * size * weight[1] + scores

    return rule


def _heads_first(dims: Dims) -> tuple[int, int]:
    """Length and width of [batch, length, width] or [batch, heads, length, size]."""
    return (dims[1], dims[2]) if len(dims) == 3 else (dims[2], dims[1] * dims[3])


def _attention(past: int) -> Rule:
    """Q, K and V that are projected already, or packed: [batch, length, heads, 3, size]."""

    def rule(read: _Read) -> int | None:
        query = read.dims(0)
        if query is None:
            return None
        if len(query) == 5:
            wide = query[2] * query[4]
            return 2 * _scores(query[0], query[1], query[1], wide)
        key, value = read.dims(1), read.dims(2)
        if key is not None and len(key) == 5:
            value = (*key[:2], key[2] * key[4])
            key = value
        if key is None or value is None or len(query) not in (3, 4):
            return None
        (length, wide), (keys, _) = _heads_first(query), _heads_first(key)
        made = _heads_first(value)[1]
        heads = read.number("q_num_heads"), read.number("kv_num_heads")
        if all(heads) and len(value) == 3:
            made = made // heads[1] * heads[0]
        elif len(query) == len(value) == 4:
            made = query[1] * value[3]  # several heads may share keys and values
        if read.given(past):
            before = read.dims(past)
            if before is None or len(before) != 4:
                return None
            keys += before[2]
        return _scores(query[0], length, keys, wide) + _scores(query[0], length, keys, made)

    return rule


def _grouped_attention(read: _Read) -> int | None:
    """ONNX Runtime's GroupQueryAttention: [batch, length, heads · size], the past in input 3."""
    query, past = read.dims(0), read.dims(3)
    heads, shared = read.number("num_heads"), read.number("kv_num_heads")
    if query is None or len(query) != 3 or not heads or (past is None and read.given(3)):
        return None
    packed = not read.given(1)
    wide = query[2] * heads // (heads + 2 * shared) if packed else query[2]
    keys = query[1] + (past[2] if past is not None and len(past) == 4 else 0)
    return 2 * _scores(query[0], query[1], keys, wide)


RULES: Mapping[tuple[str, str], Rule] = {
    ("", "Attention"): _attention(past=4),
    ("", "Conv"): _convolution(),
    ("", "ConvInteger"): _convolution(),
    ("", "ConvTranspose"): _transposed_convolution,
    ("", "DeformConv"): _convolution(),
    ("", "Einsum"): _einsum,
    ("", "GRU"): _recurrent,
    ("", "Gemm"): _product,
    ("", "LSTM"): _recurrent,
    ("", "MatMul"): _product,
    ("", "MatMulInteger"): _product,
    ("", "QLinearConv"): _convolution(weight=3),
    ("", "QLinearMatMul"): _product,
    ("", "RNN"): _recurrent,
    (CONTRIB, "Attention"): _packed_attention(past=4),
    (CONTRIB, "DynamicQuantizeLSTM"): _recurrent,
    (CONTRIB, "DynamicQuantizeMatMul"): _product,
    (CONTRIB, "FusedConv"): _convolution(),
    (CONTRIB, "FusedGemm"): _product,
    (CONTRIB, "FusedMatMul"): _product,
    (CONTRIB, "GroupQueryAttention"): _grouped_attention,
    (CONTRIB, "MatMulIntegerToFloat"): _product,
    (CONTRIB, "MatMulNBits"): _blocks,
    (CONTRIB, "MultiHeadAttention"): _attention(past=6),
    (CONTRIB, "QAttention"): _packed_attention(past=8),
    (CONTRIB, "QGemm"): _product,
}
"""Domain and operator → how its multiply-accumulates are counted."""
