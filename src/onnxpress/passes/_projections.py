"""Columns of a product with a constant weight, whatever selects and rearranges them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.passes._heads import Refusal
from onnxpress.shape_rules import slices
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op
from onnxpress.views import Axes, Factor, View, Views, reshaped

SELECTING = ("Gather", "Slice", "Split")
TURN = (1, 0, 2)
"""[length, batch, size] ↔ [batch, length, size]."""


@dataclass(frozen=True)
class Part:
    """``(source · weight + bias)[..., columns]``; ``turned``: its first two dimensions swapped.

    ``nodes`` make it, the last one first.
    """

    source: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    columns: np.ndarray
    turned: bool
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Chosen:
    """``factor``, of which ``indices`` are left, and those stand as ``parts``."""

    factor: Factor
    indices: np.ndarray
    parts: tuple[Factor, ...]


class Parts:
    """The parts of products in one model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes, self._views = shapes, Views(shapes)

    def of(self, value: ir.Value) -> Part:
        """Raises ``Refusal`` where ``value`` is none."""
        outer = self._views.of(value)
        node = outer.source.producer()
        if node is None or not is_op(node, *SELECTING) or node.inputs[0] is None:
            return self._part(outer, outer.after, outer.nodes[::-1], None)
        inner = self._views.of(node.inputs[0])
        nodes = (*outer.nodes[::-1], node, *inner.nodes[::-1])
        axis, indices = self._selected(node, outer.source)
        if len(inner.after[axis]) != 1:
            raise Refusal("what is selected of their product is no dimension of its own", node)
        left = () if indices.size == 1 else (Factor(indices.size),)
        axes = [*inner.after[:axis], left, *inner.after[axis + 1 :]]
        kept = View(inner.source, inner.before, tuple(axes))
        flat = sum(outer.before, ())
        split = reshaped(kept, [factor.size for factor in flat])
        if split is None:
            raise Refusal("rows and columns of their product are mixed", node)
        inside = dict(zip(flat, split.after, strict=True))
        after = tuple(sum((inside[factor] for factor in axes), ()) for axes in outer.after)
        known = set(sum(split.before, ()))
        parts = tuple(factor for axes in split.after for factor in axes if factor not in known)
        chosen = _Chosen(inner.after[axis][0], indices, parts)
        return self._part(split, after, nodes, chosen)

    def _part(
        self, view: View, after: Axes, nodes: tuple[ir.Node, ...], chosen: _Chosen | None
    ) -> Part:
        """``after`` are the axes of what ``nodes`` make of the source of ``view``."""
        source, weight, bias, own = _linear(view.source)
        width = constant(weight).shape[1]  # type: ignore[union-attr]  # _linear
        nodes = (*nodes, *own)
        if after == view.before:
            return Part(source, weight, bias, np.arange(width), False, nodes)
        if len(view.before) != len(TURN) or len(after) != len(TURN):
            raise Refusal("their product has not three dimensions", own[0])
        *rows, last = view.before
        order = list(last)
        columns = np.arange(width).reshape([_int(factor) for factor in last])
        if chosen is not None:
            if chosen.factor not in order:
                raise Refusal("rows of their product are selected", nodes[0])
            place = order.index(chosen.factor)
            columns = columns.take(chosen.indices.reshape(-1), axis=place)
            order[place : place + 1] = chosen.parts
            columns = columns.reshape([_int(factor) for factor in order])
        if set(after[2]) != set(order) or list(after[:2]) not in (rows, rows[::-1]):
            raise Refusal("rows and columns of their product are mixed", nodes[0])
        columns = columns.transpose([order.index(factor) for factor in after[2]]).reshape(-1)
        return Part(source, weight, bias, columns, list(after[:2]) != rows, nodes)

    def _selected(self, node: ir.Node, value: ir.Value) -> tuple[int, np.ndarray]:
        """The axis along which ``node`` selects, and what."""
        shape = self._shapes.shape(node.inputs[0]) or ()
        axis = node.attributes.get_int("axis", 0) % max(len(shape), 1)
        indices: np.ndarray | None = None
        if is_op(node, "Gather"):
            indices = constant(node.inputs[1])
        elif is_op(node, "Split"):
            parts = [self._shapes.shape(part) for part in node.outputs]
            ends = np.cumsum([0, *(_int(part[axis]) for part in parts if part is not None)])
            place = list(node.outputs).index(value)
            indices = np.arange(ends[place], ends[place + 1]) if None not in parts else None
        else:
            found = slices(self._shapes, node) or {}
            (axis, (start, end, step)), *others = found.items() if found else [(0, (0, 0, 0))]
            axis %= max(len(shape), 1)
            if not others and step > 0 and isinstance(start, int) and isinstance(end, int):
                indices = np.arange(_int(shape[axis]))[start:end:step]
        if not shape or indices is None or indices.ndim > 1:
            raise Refusal("what is selected of their product is not constant", node)
        size = shape[axis]
        known = isinstance(size, int) and indices.size > 0
        if known and not -size <= indices.min() <= indices.max() < size:
            raise Refusal("what is selected of their product is not there", node)
        return axis, indices


def _int(size: object) -> int:
    size = size.size if isinstance(size, Factor) else size
    if not isinstance(size, int):
        raise Refusal("the size of what is selected is not constant")
    return size


def _linear(
    value: ir.Value,
) -> tuple[ir.Value, ir.Value, ir.Value | None, tuple[ir.Node, ...]]:
    """Source, weight and bias of ``value``, and the nodes that make it, the last one first."""
    nodes, bias = [], None
    node = value.producer()
    if node is not None and is_op(node, "Add"):
        side = 1 if constant(node.inputs[1]) is not None else 0
        bias, data = node.inputs[side], node.inputs[1 - side]
        array = constant(bias)
        if array is None or array.ndim != 1 or data is None:
            raise Refusal("what is added to one of them is no constant of one dimension", node)
        nodes.append(node)
        node = data.producer()
    weight = None if node is None or len(node.inputs) < 2 else node.inputs[1]
    array = constant(weight)
    if node is None or not is_op(node, "MatMul") or array is None or array.ndim != 2:
        raise Refusal("one of them is not a product with a constant", node)
    added, source = constant(bias), node.inputs[0]
    assert source is not None
    assert weight is not None
    if added is not None and added.size not in (1, array.shape[1]):
        raise Refusal("what is added to one of them makes it grow", nodes[0])
    return source, weight, bias, (*nodes, node)
