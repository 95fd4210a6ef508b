"""The integer arithmetic that exporters compute shapes with, on sizes.

A rule gives the elements of a node's first output as an array of sizes, or None.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size, floor_divide, maximum, minimum, never_equal
from onnxpress.shape_rules import Known, slices

Rule = Callable[[Known, ir.Node], np.ndarray | None]

WHOLE = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def _shape(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.shape(node.inputs[0])
    if found is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(found))
    return _array(found[start:end])


def _size(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.shape(node.inputs[0])
    return None if found is None else np.array(np.prod(_array(found), initial=1), object)


def _same(shapes: Known, node: ir.Node) -> np.ndarray | None:
    return shapes.elements(node.inputs[0])


def _cast(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.elements(node.inputs[0])
    to = node.attributes.get_int("to", 0)
    if found is None or to not in WHOLE[:2] or shapes.dtype(node.inputs[0]) not in WHOLE[:2]:
        return None
    return found


def _gather(shapes: Known, node: ir.Node) -> np.ndarray | None:
    data, places = (shapes.elements(value) for value in node.inputs[:2])
    if data is None or places is None or data.ndim != 1:
        return None
    index = places.astype(np.int64) if all(isinstance(i, int) for i in places.flat) else None
    if index is None or (index.size and not -data.size <= index.min() <= index.max() < data.size):
        return None
    return np.asarray(data[index], object)


def _slice(shapes: Known, node: ir.Node) -> np.ndarray | None:
    data, parts = shapes.elements(node.inputs[0]), slices(shapes, node)
    if data is None or parts is None:
        return None
    along = [slice(None)] * data.ndim
    for axis, (start, end, step) in parts.items():
        known = isinstance(start, int) and isinstance(end, int)
        if not known or not -data.ndim <= axis < data.ndim or step == 0:
            return None
        along[axis] = slice(start, end, step)
    return data[tuple(along)]


def _concat(shapes: Known, node: ir.Node) -> np.ndarray | None:
    parts = [shapes.elements(value) for value in node.inputs]
    known = [part for part in parts if part is not None and part.ndim == 1]
    return np.concatenate(known) if len(known) == len(parts) else None


def _unsqueeze(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.elements(node.inputs[0])
    return found.reshape(1) if found is not None and found.ndim == 0 else None


def _squeeze(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.elements(node.inputs[0])
    return found.reshape(()) if found is not None and found.shape == (1,) else None


def _reshape(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found, target = (shapes.elements(value) for value in node.inputs[:2])
    if found is None or target is None or not all(isinstance(i, int) for i in target.flat):
        return None
    wanted = [int(i) for i in target]
    rest = math.prod(size for size in wanted if size != -1)
    if not rest or found.size % rest or wanted.count(-1) > 1:
        return None
    return found.reshape(wanted) if -1 in wanted or found.size == rest else None


def _transpose(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found, order = shapes.elements(node.inputs[0]), node.attributes.get("perm")
    places = None if order is None else list(order.as_ints())
    if found is None or sorted(places or range(found.ndim)) != list(range(found.ndim)):
        return None
    return found.transpose(places)


def _split(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found, first = shapes.elements(node.inputs[0]), shapes.shape(node.outputs[0])
    if found is None or found.ndim != 1 or first is None or not isinstance(first[0], int):
        return None
    return found[: first[0]]


def _two(combine: Callable[[Size, Size], Size | None]) -> Rule:
    def rule(shapes: Known, node: ir.Node) -> np.ndarray | None:
        known = [shapes.elements(value) for value in node.inputs]
        one, two = known if len(known) == 2 else (None, None)
        if one is None or two is None:
            return None
        pairs = np.broadcast(one, two)
        results = [combine(a, b) for a, b in pairs]
        if any(result is None for result in results):
            return None
        return _array(results).reshape(pairs.shape)

    return rule


def _divide(a: Size, b: Size) -> Size | None:
    """Towards zero; of sizes that is down: what is computed of them is negative in no valid run."""
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    positive = b > 0 if isinstance(b, int) else b.is_positive
    return floor_divide(a, b) if positive else None


def _modulo(a: Size, b: Size) -> Size | None:
    """Of numbers that are not negative, for which ONNX's two kinds of it agree."""
    return a % b if isinstance(a, int) and isinstance(b, int) and a >= 0 and b > 0 else None


def _equal(a: Size, b: Size) -> bool | None:
    if a == b:
        return True
    return False if never_equal(a, b) else None


def _where(shapes: Known, node: ir.Node) -> np.ndarray | None:
    condition, yes, no = (shapes.elements(value) for value in node.inputs[:3])
    if condition is None or yes is None or no is None:
        return None
    return np.where(condition.astype(bool), yes, no)


def _constant_of_shape(shapes: Known, node: ir.Node) -> np.ndarray | None:
    target = shapes.elements(node.inputs[0])
    fill = node.attributes.get("value")
    if target is None or fill is None or fill.is_ref() or fill.as_tensor().dtype not in WHOLE:
        return None
    if not all(isinstance(dim, int) for dim in target.flat) or target.size > 1:
        return None
    return np.full([int(dim) for dim in target.flat], fill.as_tensor().numpy().item(), object)


def _product(shapes: Known, node: ir.Node) -> np.ndarray | None:
    found = shapes.elements(node.inputs[0])
    if found is None or found.ndim != 1:
        return None
    total = np.array(np.prod(found, initial=1), object)
    return total.reshape(1) if node.attributes.get_int("keepdims", 1) else total


def _array(sizes: Sequence[object]) -> np.ndarray:
    found = np.empty(len(sizes), object)
    found[:] = list(sizes)
    return found


DATA_RULES: Mapping[str, Rule] = {
    "Add": _two(operator.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _two(_divide),
    "Equal": _two(_equal),
    "Gather": _gather,
    "Identity": _same,
    "Max": _two(maximum),
    "Min": _two(minimum),
    "Mod": _two(_modulo),
    "Mul": _two(operator.mul),
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _two(operator.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
