"""Integer tensors whose elements follow from where they stand: ``batch_index * length + place``.

Exporters write attention masks as gathers by ranges that were unsqueezed, scaled and added. An
element of such a tensor is a sum over its axes, of the index on the axis times a stride.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size, product
from onnxpress.shape_rules import slices
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op
from onnxpress.views import View, Views

WHOLE = (ir.DataType.INT64, ir.DataType.INT32)


@dataclass(frozen=True)
class Affine:
    """``offset + Σ strides[axis] · index[axis]`` for a tensor of ``shape``.

    The stride of an axis of size 1 is 0.
    """

    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size = 0

    @property
    def never_negative(self) -> bool:
        return all(
            stride >= 0 if isinstance(stride, int) else stride.is_positive
            for stride in (*self.strides, self.offset)
        )

    @property
    def axes(self) -> list[int]:
        """Those along which the elements differ."""
        return [axis for axis, stride in enumerate(self.strides) if stride != 0]

    def counts_through(self, size: Size) -> bool:
        """Whether the elements in order are 0, 1, …, ``size`` - 1."""
        expected: Size = 1
        for axis in reversed(self.axes):
            if self.strides[axis] != expected:
                return False
            expected = expected * self.shape[axis]
        return self.offset == 0 and expected == size and product(self.shape) == size


class Indices:
    """The affine tensors of one model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes, self._views = shapes, Views(shapes)
        self._known: dict[ir.Value, Affine | None] = {}

    def of(self, value: ir.Value | None) -> Affine | None:
        """What the elements of ``value`` are; None where they are no such sums."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None  # while it is looked for
            self._known[value] = self._found(value)
        return self._known[value]

    def _found(self, value: ir.Value) -> Affine | None:
        shape, node = self._shapes.shape(value), value.producer()
        if shape is None or self._shapes.dtype(value) not in WHOLE:
            return None
        elements = self._shapes.elements(value)
        if elements is not None and elements.size == 1:
            return Affine(shape, (0,) * len(shape), elements.reshape(-1)[0])
        if node is None:
            return self._constant(value, shape)
        view = self._views.of(value)
        if view.nodes:
            return self._viewed(view, shape)
        rules = {
            "Add": self._sum, "Cast": self._kept, "Expand": self._kept, "Gather": self._uniform,
            "GatherElements": self._uniform, "Mul": self._scaled, "Range": self._range,
            "Slice": self._sliced, "Sub": self._sum,
        }  # fmt: skip
        rule = rules.get(node.op_type) if is_op(node, *rules) else None
        return None if rule is None else rule(node, shape)

    def _kept(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        return self._broadcast(self.of(node.inputs[0]), shape)

    def _uniform(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        """What is gathered from a tensor whose elements are all the same."""
        source = self.of(node.inputs[0])
        same = source is not None and not source.axes
        return Affine(shape, (0,) * len(shape), source.offset) if source and same else None

    def _sliced(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        source, parts = self.of(node.inputs[0]), slices(self._shapes, node)
        if source is None or parts is None:
            return None
        strides, offset = list(source.strides), source.offset
        for axis, (start, _, step) in parts.items():
            size = source.shape[axis]
            within = isinstance(size, int) and isinstance(start, int) and 0 <= start < size
            if step < 1 or not (start == 0 or within):
                return None
            offset = offset + strides[axis] * start
            strides[axis] = strides[axis] * step
        return Affine(shape, tuple(strides), offset)

    def _constant(self, value: ir.Value, shape: tuple[Size, ...]) -> Affine | None:
        """A constant that counts in even steps along each axis."""
        array = constant(value)
        if array is None or not array.size:
            return None
        first = array[(0,) * array.ndim]
        steps = [
            array.take(1, axis).flat[0] - first if size > 1 else 0
            for axis, size in enumerate(array.shape)
        ]
        rebuilt = first + sum(
            (step * index for step, index in zip(steps, np.indices(array.shape), strict=True)),
            np.zeros(array.shape, np.int64),
        )
        if not np.array_equal(array, rebuilt):
            return None
        return Affine(shape, tuple(int(step) for step in steps), int(first))

    def _range(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        start, _, step = (self._shapes.elements(value) for value in node.inputs[:3])
        if start is None or step is None:
            return None
        return Affine(shape, (0 if shape == (1,) else step.item(),), start.item())

    def _viewed(self, view: View, shape: tuple[Size, ...]) -> Affine | None:
        source = self.of(view.source)
        if source is None:
            return None
        # The stride of each factor of the source's axes, the last of an axis first.
        strides: dict[object, Size] = {}
        for axis, stride in zip(view.before, source.strides, strict=True):
            step = stride
            for factor in reversed(axis):
                strides[factor] = step
                step = step * factor.size
        found: list[Size] = []
        for axis in view.after:
            merged: Size = 0
            expected: Size | None = None
            for factor in reversed(axis):
                if expected is None:
                    merged = strides[factor]
                elif strides[factor] != expected:
                    return None
                expected = strides[factor] * factor.size
            found.append(merged)
        return Affine(shape, tuple(found), source.offset)

    def _broadcast(self, source: Affine | None, shape: tuple[Size, ...]) -> Affine | None:
        if source is None:
            return None
        missing = len(shape) - len(source.shape)
        return Affine(shape, (0,) * missing + source.strides, source.offset)

    def _sum(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        one, two = (self._broadcast(self.of(value), shape) for value in node.inputs[:2])
        if one is None or two is None:
            return None
        combine = operator.add if node.op_type == "Add" else operator.sub
        strides = tuple(map(combine, one.strides, two.strides))
        return Affine(shape, strides, combine(one.offset, two.offset))

    def _scaled(self, node: ir.Node, shape: tuple[Size, ...]) -> Affine | None:
        for data, other in (node.inputs[:2], node.inputs[1::-1]):
            factor, source = self._shapes.elements(other), self._broadcast(self.of(data), shape)
            if factor is not None and factor.size == 1 and source is not None:
                by = factor.reshape(-1)[0]
                strides = tuple(stride * by for stride in source.strides)
                return Affine(shape, strides, source.offset * by)
        return None
