"""What operators make of sizes that onnx's own inference does not follow.

A rule gives the shape of a node's first output, or None where onnx's answer stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Dim, Size, at_most, divide, floor_divide, maximum, minimum, product

Shape = tuple[Size, ...]


class Known(Protocol):
    """What is known of the inputs of a node."""

    def dtype(self, value: ir.Value | None) -> ir.DataType | None: ...

    def shape(self, value: ir.Value | None) -> Shape | None: ...

    def elements(self, value: ir.Value | None) -> np.ndarray | None: ...

    def fresh(self) -> Dim:
        """A size that nothing is known of."""
        ...


Rule = Callable[[Known, ir.Node], Shape | None]

BROADCASTING = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
    "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def broadcast(*shapes: Sequence[Size]) -> tuple[Size | None, ...]:
    """As ``numpy.broadcast_shapes``; None is a dimension that may be any of several."""
    rank = max(map(len, shapes), default=0)
    columns = zip(*((1,) * (rank - len(shape)) + tuple(shape) for shape in shapes), strict=True)
    return tuple(map(_one, columns))


def _one(sizes: Iterable[Size]) -> Size | None:
    several = {size for size in sizes if size != 1}
    if len(several) < 2:
        return next(iter(several), 1)
    numbers = [size for size in several if isinstance(size, int)]
    if numbers:
        return numbers[0] if len(set(numbers)) == 1 else None
    # Where sizes differ, all but one of them are 1: the one that no other exceeds.
    largest = maximum(*several)
    return largest if largest in several else None


def _broadcast(shapes: Known, node: ir.Node) -> Shape | None:
    known = [shapes.shape(value) for value in node.inputs]
    if any(shape is None for shape in known):
        return None
    found = broadcast(*(shape for shape in known if shape is not None))
    return tuple(shapes.fresh() if dim is None else dim for dim in found)


def _reshape(shapes: Known, node: ir.Node) -> Shape | None:
    data, target = shapes.shape(node.inputs[0]), _sizes(shapes, node, 1)
    if target is None:
        return None
    if 0 in target and not node.attributes.get_int("allowzero", 0):
        if data is None or 0 in target[len(data) :]:
            return None
        target = [data[axis] if dim == 0 else dim for axis, dim in enumerate(target)]
    if -1 in target:
        place = target.index(-1)
        others = product(dim for axis, dim in enumerate(target) if axis != place)
        exact = None if data is None else divide(product(data), others)
        target[place] = shapes.fresh() if exact is None else exact
    return tuple(target)


def _flatten(shapes: Known, node: ir.Node) -> Shape | None:
    data, axis = shapes.shape(node.inputs[0]), node.attributes.get_int("axis", 1)
    if data is None:
        return None
    axis = axis + len(data) if axis < 0 else axis
    return product(data[:axis]), product(data[axis:])


def _expand(shapes: Known, node: ir.Node) -> Shape | None:
    data, target = shapes.shape(node.inputs[0]), _sizes(shapes, node, 1)
    if data is None or target is None:
        return None
    return tuple(shapes.fresh() if dim is None else dim for dim in broadcast(data, target))


def _constant_of_shape(shapes: Known, node: ir.Node) -> Shape | None:
    target = _sizes(shapes, node, 0)
    return None if target is None else tuple(target)


def _range(shapes: Known, node: ir.Node) -> Shape | None:
    start, limit, step = (shapes.elements(value) for value in node.inputs[:3])
    if start is None or limit is None or step is None or step.item() != 1:
        return None
    count = limit.item() - start.item()
    return (max(0, count) if isinstance(count, int) else count,)


def _concat(shapes: Known, node: ir.Node) -> Shape | None:
    known = [shapes.shape(value) for value in node.inputs]
    first = known[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in known):
        return None
    axis = node.attributes.get_int("axis", 1) % max(len(first), 1)
    columns = list(zip(*(shape for shape in known if shape is not None), strict=True))
    total: Size = 0
    for size in columns[axis]:
        total = total + size
    return tuple(
        total if place == axis else next((d for d in dims if isinstance(d, int)), dims[0])
        for place, dims in enumerate(columns)
    )


def _slice(shapes: Known, node: ir.Node) -> Shape | None:
    data, parts = shapes.shape(node.inputs[0]), slices(shapes, node)
    if data is None or parts is None:
        return None
    result = list(data)
    for axis, (start, end, step) in parts.items():
        length = _length(data[axis], start, end, step)
        result[axis] = shapes.fresh() if length is None else length
    return tuple(result)


def slices(shapes: Known, node: ir.Node) -> dict[int, tuple[Size, Size, int]] | None:
    """Axis → start, end and step of a ``Slice``; None where they are unknown."""
    read = node.attributes
    if "starts" in read:  # before opset 10
        starts, ends = list(read["starts"].as_ints()), list(read["ends"].as_ints())
        axes = list(read["axes"].as_ints()) if "axes" in read else range(len(starts))
        return {a: (s, e, 1) for a, s, e in zip(axes, starts, ends, strict=True)}
    start, end = _sizes(shapes, node, 1), _sizes(shapes, node, 2)
    if start is None or end is None:
        return None
    along = _sizes(shapes, node, 3) if _has(node, 3) else list(range(len(start)))
    steps = _sizes(shapes, node, 4) if _has(node, 4) else [1] * len(start)
    if along is None or steps is None:
        return None
    found: dict[int, tuple[Size, Size, int]] = {}
    for axis, first, last, step in zip(along, start, end, steps, strict=True):
        if not isinstance(axis, int) or not isinstance(step, int):
            return None
        found[axis] = first, last, step
    return found


def _length(size: Size, start: Size, end: Size, step: int) -> Size | None:
    if step < 1:
        if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
            return len(range(*slice(start, end, step).indices(size)))
        return None
    first, last = _bound(size, start), _bound(size, end)
    if first is None or last is None:
        return None
    if not at_most(first, last):
        return 0 if at_most(last, first) else None
    return floor_divide(last - first + (step - 1), step)


def _bound(size: Size, place: Size) -> Size | None:
    """``place`` counted from the front, and within ``size``."""
    if isinstance(place, int) and place < 0:
        if isinstance(size, int):
            return max(0, size + place)
        return size + place if place > -(1 << 31) else 0
    if isinstance(place, Dim) and not place.is_positive:
        return None
    if isinstance(place, int) and place >= (1 << 31) - 1:  # the end, as 32 bits can tell it
        return size
    return minimum(size, place)


def _window(shapes: Known, node: ir.Node) -> Shape | None:
    """Convolutions and poolings: sizes of equal computations are equal."""
    data = shapes.shape(node.inputs[0])
    read = node.attributes
    kernel: Sequence[Size] | None = None
    if "kernel_shape" in read:
        kernel = list(read["kernel_shape"].as_ints())
    elif node.op_type == "Conv":
        weight = shapes.shape(node.inputs[1])
        kernel = None if weight is None else weight[2:]
    if data is None or kernel is None or all(isinstance(dim, int) for dim in data[2:]):
        return None
    known = shapes.shape(node.outputs[0])
    rank = len(data) - 2
    if known is None or len(kernel) != rank or read.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    strides, dilations = (_ints(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = _ints(node, "pads", [0] * 2 * rank)
    if read.get_int("ceil_mode", 0):
        return None
    sizes = [
        floor_divide(size + (before + after - 1) + by * -1 * (of - 1), stride) + 1
        for size, of, stride, by, before, after in zip(
            data[2:], kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
        )
    ]
    return (*known[:2], *sizes)


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _resize(shapes: Known, node: ir.Node) -> Shape | None:
    target = _sizes(shapes, node, 3)
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    plain = "axes" not in node.attributes and policy == "stretch"
    return tuple(target) if target and plain else None


def _tile(shapes: Known, node: ir.Node) -> Shape | None:
    data, counts = shapes.shape(node.inputs[0]), _sizes(shapes, node, 1)
    if data is None or counts is None or len(counts) != len(data):
        return None
    return tuple(size * count for size, count in zip(data, counts, strict=True))


def _pad(shapes: Known, node: ir.Node) -> Shape | None:
    data, pads = shapes.shape(node.inputs[0]), _sizes(shapes, node, 1)
    if data is None or pads is None:
        return None
    axes = _sizes(shapes, node, 3) if _has(node, 3) else list(range(len(data)))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    result = list(data)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if not isinstance(axis, int) or not -len(data) <= axis < len(data):
            return None
        result[axis] = result[axis] + before + after
    return tuple(result)


def _attention(shapes: Known, node: ir.Node) -> Shape | None:
    """Queries [batch, length, size], or packed with the rest: [batch, length, heads, 3, size]."""
    queries = shapes.shape(node.inputs[0])
    values = shapes.shape(node.inputs[2]) if len(node.inputs) > 2 else None
    if queries is None:
        return None
    if len(queries) == 5:
        return (*queries[:2], queries[2] * queries[4])
    if len(queries) != 3 or values is None or len(values) not in (3, 4):
        return None
    return (*queries[:2], values[2] if len(values) == 3 else values[1] * values[3])


def _has(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None


def _sizes(shapes: Known, node: ir.Node, index: int) -> list[Size] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    elements = shapes.elements(value)
    return None if elements is None else list(np.atleast_1d(elements))


SHAPE_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(BROADCASTING, _broadcast),
    "AveragePool": _window,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _window,
    "Expand": _expand,
    "Flatten": _flatten,
    "MaxPool": _window,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Tile": _tile,
}


def _projected(shapes: Known, node: ir.Node) -> Shape | None:
    data, weight = shapes.shape(node.inputs[0]), shapes.shape(node.inputs[1])
    if data is None or weight is None or not isinstance(weight[-1], int):
        return None
    parts = node.attributes.get("qkv_hidden_sizes")
    return (*data[:-1], weight[-1] // 3 if parts is None else parts.as_ints()[2])


def _first(shapes: Known, node: ir.Node) -> Shape | None:
    return shapes.shape(node.inputs[0])


def _product(shapes: Known, node: ir.Node) -> Shape | None:
    left, right = shapes.shape(node.inputs[0]), shapes.shape(node.inputs[1])
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    across, down = (node.attributes.get_int(name, 0) for name in ("transA", "transB"))
    lead = broadcast(left[:-2], right[:-2])
    known = tuple(shapes.fresh() if dim is None else dim for dim in lead)
    return (*known, left[-1] if across else left[-2], right[-2] if down else right[-1])


def _blocks(shapes: Known, node: ir.Node) -> Shape | None:
    left = shapes.shape(node.inputs[0])
    return None if left is None else (*left[:-1], node.attributes.get_int("N", 0))


def _embedded(shapes: Known, node: ir.Node) -> Shape | None:
    ids, table = shapes.shape(node.inputs[0]), shapes.shape(node.inputs[2])
    return None if ids is None or not table else (*ids, table[-1])


CONTRIB_RULES: Mapping[str, Rule] = {
    "Attention": _projected,
    "BiasGelu": _first,
    "DynamicQuantizeMatMul": _product,
    "EmbedLayerNormalization": _embedded,
    "FastGelu": _first,
    "FusedGemm": _product,
    "FusedMatMul": _product,
    "Gelu": _first,
    "GroupQueryAttention": _first,
    "LayerNormalization": _first,
    "MatMulIntegerToFloat": _product,
    "MatMulNBits": _blocks,
    "MultiHeadAttention": _attention,
    "QAttention": _projected,
    "QuickGelu": _first,
    "RotaryEmbedding": _first,
    "SimplifiedLayerNormalization": _first,
    "SkipLayerNormalization": _first,
    "SkipSimplifiedLayerNormalization": _first,
}
"""Those of ONNX Runtime's own operators; outputs have the type of the first input, or this one."""
UNDECLARED = ("LayerNormalization", "SimplifiedLayerNormalization")
"""Those that are called as if they were ONNX's; before opset 17 neither is."""
TYPED_BY = {"EmbedLayerNormalization": 2, "MatMulIntegerToFloat": 2, "QAttention": 3}
"""Operator → the input whose type its outputs have, where that is not the first one."""
