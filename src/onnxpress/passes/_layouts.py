"""Operators that do the same in any order of the dimensions, and how they are written in another.

An order is a permutation as Transpose takes it: dimension ``i`` of the result is ``order[i]`` of
the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op, opset

UNARY = (
    "Abs", "Cast", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
"""Of each element of the first input; the others are numbers."""
BROADCASTING = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean",
    "Min", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
"""Of the elements of all inputs at one place."""
ALONG = ("Concat", "LogSoftmax", "Softmax", "Split")
"""Along the dimension ``axis``."""
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
FIRST_OPSET = 13
"""The first opset whose operators are all as they are told of here."""


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def axes_of(node: ir.Node, rank: int) -> list[int] | None:
    """The dimensions that a reduction or a Slice names; None where they are not known."""
    attribute = node.attributes.get("axes")
    if attribute is not None:
        return [axis % rank for axis in attribute.as_ints()]
    place = 3 if is_op(node, "Slice") else 1
    if len(node.inputs) > place and node.inputs[place] is not None:
        axes = constant(node.inputs[place])
        if axes is None or (not axes.size and not is_op(node, "Slice")):
            return None
        return [int(axis) % rank for axis in axes]
    if not is_op(node, "Slice"):
        return list(range(rank))
    starts = constant(node.inputs[1])
    return None if starts is None else list(range(starts.size))


def order_of(node: ir.Node, rank: int) -> tuple[int, ...]:
    """Of a Transpose."""
    perm = node.attributes.get("perm")
    return tuple(range(rank))[::-1] if perm is None else tuple(perm.as_ints())


class Layouts:
    """Of one model. Shapes that change are kept by ``shapes.learn``."""

    def __init__(self, model: ir.Model, shapes: Shapes) -> None:
        self._shapes, self._names = shapes, Names(model)
        self.is_known = opset(model) >= FIRST_OPSET

    def rank(self, value: ir.Value | None) -> int | None:
        shape = self._shapes.shape(value)
        return None if shape is None else len(shape)

    def data(self, node: ir.Node, rank: int) -> list[ir.Value] | None:
        """The inputs of ``node`` that have its ``rank`` dimensions; None where order matters."""
        given = [value for value in node.inputs if value is not None]
        if is_op(node, *BROADCASTING) or is_op(node, "Concat"):
            data = [value for value in given if constant(value) is None]
            fits = all((self.rank(value) or 0) <= rank for value in given)
        else:
            known = is_op(node, *UNARY, *ALONG) or (self._keeps(node) and self._is_told(node, rank))
            data, fits = given[:1], known and all(constant(v) is not None for v in given[1:])
        same = all(self.rank(value) == rank for value in (*data, *node.outputs))
        return data if fits and data and same else None

    def reduces(self, node: ir.Node, order: Sequence[int]) -> bool:
        """Whether ``node`` removes dimensions, and the others are in the same order without it."""
        if not is_op(node, *REDUCTIONS) or node.attributes.get_int("keepdims", 1) != 0:
            return False
        axes = axes_of(node, len(order))
        left = None if axes is None else [order[a] for a in range(len(order)) if a not in axes]
        return left is not None and left == sorted(left)

    def turn(self, node: ir.Node, order: Sequence[int]) -> None:
        """``node`` for data before Transpose(``order``), so far for data behind it."""
        rank = len(order)
        if is_op(node, *BROADCASTING, "Concat"):
            for index, value in enumerate(node.inputs):
                array = constant(value)
                if value is None or array is None or array.ndim == 0:
                    continue
                turned = _turned(array, order)
                if not is_op(node, "Concat"):
                    turned = _without_leading_ones(turned)
                if turned.shape != array.shape or turned.size != max(turned.shape):
                    node.replace_input_with(index, self._constant(node, value, turned))
        if is_op(node, *ALONG):
            default = 0 if is_op(node, "Split") else -1
            axis = node.attributes.get_int("axis", default) % rank
            node.attributes["axis"] = ir.AttrInt64("axis", order[axis])
        elif is_op(node, "Pad"):
            pads = constant(node.inputs[1])
            assert pads is not None
            moved = pads.reshape(2, rank)[:, list(inverse(order))].reshape(-1)
            self._set(node, 1, moved)
        elif is_op(node, *REDUCTIONS, "Slice"):
            axes = axes_of(node, rank)
            assert axes is not None
            if "axes" in node.attributes:
                node.attributes["axes"] = ir.AttrInt64s("axes", [order[axis] for axis in axes])
            elif is_op(node, "Slice") or len(node.inputs) > 1:
                self._set(
                    node,
                    3 if is_op(node, "Slice") else 1,
                    np.array([order[a] for a in axes], np.int64),
                )

    def _keeps(self, node: ir.Node) -> bool:
        return is_op(node, "Pad", "Slice") or (
            is_op(node, *REDUCTIONS) and node.attributes.get_int("keepdims", 1) == 1
        )

    def _is_told(self, node: ir.Node, rank: int) -> bool:
        """Whether the dimensions that it names are known."""
        if is_op(node, "Pad"):
            pads = constant(node.inputs[1])
            return len(node.inputs) < 4 and pads is not None and pads.size == 2 * rank
        return axes_of(node, rank) is not None

    def _set(self, node: ir.Node, index: int, array: np.ndarray) -> None:
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index] or node.inputs[1]
        assert old is not None
        node.replace_input_with(index, self._constant(node, old, array))

    def _constant(self, node: ir.Node, old: ir.Value, array: np.ndarray) -> ir.Value:
        assert node.graph is not None
        name = self._names.fresh(f"{old.name}_turned")
        return add_initializer(node.graph, name, ir.tensor(np.ascontiguousarray(array), name=name))


def _turned(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return full.transpose(inverse(order))


def _without_leading_ones(array: np.ndarray) -> np.ndarray:
    first = next((axis for axis, size in enumerate(array.shape) if size != 1), array.ndim - 1)
    return array.reshape(array.shape[first:])
