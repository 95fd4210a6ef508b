"""Values as ``x W + h R + b``, however the products are stacked, split, joined or added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.matching import Match, Pattern
from onnxpress.shape_rules import slices
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op

CUTS = ("Slice", "Split")


@dataclass(frozen=True, eq=False)
class Gate(Pattern):
    """What ``op_type`` makes, or some columns of it: one product, one Sigmoid, two gates."""

    op_type: str

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        if self in found.values:
            if found[self] is value:
                yield found
            return
        nodes, node = [], value.producer()
        while node is not None and is_op(node, *CUTS) and node.inputs[0] is not None:
            nodes.append(node)
            node = node.inputs[0].producer()
        if node is not None and is_op(node, self.op_type):
            for one in (*nodes, node):
                found = found.bound(self, value, one)
            yield found


@dataclass(frozen=True)
class Source:
    """What is multiplied, [batch, size]: ``value``, or what lies at ``place`` along ``axis`` of it.

    ``made`` is the value in the graph that is just this, if there is one.
    """

    value: ir.Value
    axis: int = -1
    place: int = 0
    made: ir.Value | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Affine:
    """``Σ source · weight + bias + Σ others``; weights are [size, columns], the bias is [columns].

    ``others`` are summands that are no products with constants, ``nodes`` all that compute it.
    """

    weights: Mapping[Source, np.ndarray]
    bias: np.ndarray
    others: tuple[ir.Value, ...] = ()
    nodes: tuple[ir.Node, ...] = ()

    def negative(self) -> Affine:
        """The same with the other sign; it must have no others."""
        assert not self.others
        return Affine({s: -w for s, w in self.weights.items()}, -self.bias, (), self.nodes)


@dataclass(frozen=True)
class _Pick:
    """That only ``place`` along ``axis`` of a value of three dimensions is meant."""

    axis: int
    place: int


_Picked = tuple[ir.Value, _Pick, tuple[ir.Node, ...]]
"""The tensor, what is picked of it, and the nodes that do."""


class AffineReader:
    """Reads values of two dimensions of one graph."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def read(self, value: ir.Value) -> Affine | None:
        """None where the number of dimensions or columns is unknown."""
        shape = self._shapes.shape(value)
        if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
            return None
        return self._columns(value, 0, shape[1])

    def read_gate(self, value: ir.Value) -> Affine | None:
        """Of ``f(a)``, or some columns of it (see ``Gate``), those of ``a``."""
        shape = self._shapes.shape(value)
        if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
            return None
        start, nodes = 0, []
        node = value.producer()
        while node is not None and is_op(node, *CUTS) and node.inputs[0] is not None:
            offset = self._offset(node, value, 1)
            if offset is None:
                return None
            start, value = start + offset, node.inputs[0]
            nodes.append(node)
            node = value.producer()
        if node is None or node.inputs[0] is None:
            return None
        found = self._columns(node.inputs[0], start, start + shape[1])
        return replace(found, nodes=(*found.nodes, *nodes, node))

    def _columns(self, value: ir.Value, start: int, stop: int) -> Affine:
        total = _Sum(np.zeros(stop - start, np.float64))
        self._add(total, value, start, stop, None)
        return Affine(
            total.weights,
            total.bias,
            tuple(dict.fromkeys(total.others)),
            tuple(dict.fromkeys(total.nodes)),
        )

    def source(self, value: ir.Value) -> Source:
        """What ``value`` is a part of, or itself."""
        picked = self._picked(value)
        if picked is None:
            return Source(value, made=value)
        tensor, pick, _ = picked
        return Source(tensor, pick.axis, pick.place, value)

    def _add(self, total: _Sum, value: ir.Value, start: int, stop: int, pick: _Pick | None) -> None:
        """Add the columns from ``start`` to ``stop`` of ``value``."""
        array, node = constant(value), value.producer()
        if array is not None:
            row = _row(array, start, stop)
            if row is None:
                total.others.append(value)
            else:
                total.bias = total.bias + row
            return
        if node is None:
            total.others.append(value)
            return
        for step in (self._add_sum, self._add_product, self._add_part):
            if step(total, node, value, start, stop, pick):
                total.nodes.append(node)
                return
        picked = None if pick else self._picked(value)
        if picked is None:
            total.others.append(value)
        else:
            total.nodes.extend(picked[2])
            self._add(total, picked[0], start, stop, picked[1])

    def _add_sum(
        self, total: _Sum, node: ir.Node, value: ir.Value, start: int, stop: int, pick: _Pick | None
    ) -> bool:
        if not is_op(node, "Add", "Identity", "Sum"):
            return False
        operands = list(node.inputs)
        whole = self._shapes.shape(value)
        for operand in operands:
            if operand is None or (
                constant(operand) is None and not self._spans(operand, whole, pick)
            ):
                return False
        for operand in operands:
            assert operand is not None
            self._add(total, operand, start, stop, pick)
        return True

    def _spans(self, operand: ir.Value, whole: Sequence[Size] | None, pick: _Pick | None) -> bool:
        """Whether an operand has all columns, and all places that are picked from."""
        shape = self._shapes.shape(operand)
        if whole is None or shape is None or len(shape) != len(whole) or shape[-1] != whole[-1]:
            return False
        return pick is None or shape[pick.axis] == whole[pick.axis]

    def _add_product(
        self, total: _Sum, node: ir.Node, value: ir.Value, start: int, stop: int, pick: _Pick | None
    ) -> bool:
        if not is_op(node, "Gemm", "MatMul"):
            return False
        data, weight = node.inputs[0], constant(node.inputs[1])
        if data is None or weight is None or weight.ndim != 2:
            return False
        read = node.attributes
        added = node.inputs[2] if len(node.inputs) > 2 else None
        bias = None
        if is_op(node, "Gemm"):
            weight = weight.T if read.get_int("transB", 0) else weight
            array = None if added is None else constant(added)
            bias = None if array is None else _row(array, start, stop)
            if read.get_int("transA", 0) or (added is not None and bias is None):
                return False
            alpha, beta = read.get_float("alpha", 1.0), read.get_float("beta", 1.0)
            weight = weight if alpha == 1 else weight * np.asarray(alpha, weight.dtype)
            bias = None if bias is None else bias * beta
        if not self._multiplied(total, data, weight[:, start:stop], pick):
            return False
        total.bias = total.bias if bias is None else total.bias + bias
        return True

    def _multiplied(
        self, total: _Sum, data: ir.Value, weight: np.ndarray, pick: _Pick | None
    ) -> bool:
        """Add ``data · weight``; what is joined is taken apart, with its rows of the weight."""
        shape = self._shapes.shape(data)
        if shape is None or len(shape) != (3 if pick else 2) or shape[-1] != len(weight):
            return False
        node = data.producer()
        if node is not None and is_op(node, "Concat") and _along_last(node, len(shape)):
            parts = list(self._parts(node))
            if all(part is not None for part in parts):
                total.nodes.append(node)
                return all(
                    self._multiplied(total, part[0], weight[part[1] : part[2]], pick)
                    for part in parts
                    if part is not None
                )
        source = self.source(data) if pick is None else Source(data, pick.axis, pick.place)
        known = total.weights.get(source)
        total.weights[source] = weight if known is None else known + weight
        return True

    def _add_part(
        self, total: _Sum, node: ir.Node, value: ir.Value, start: int, stop: int, pick: _Pick | None
    ) -> bool:
        """A run of columns of another value."""
        shape = self._shapes.shape(value)
        if shape is None or not node.inputs or node.inputs[0] is None:
            return False
        if is_op(node, "Concat") and _along_last(node, len(shape)):
            for part in self._parts(node):
                if part is None:
                    return False
                if part[1] <= start and stop <= part[2]:
                    self._add(total, part[0], start - part[1], stop - part[1], pick)
                    return True
            return False
        offset = self._offset(node, value, len(shape) - 1)
        if offset is None:
            return False
        self._add(total, node.inputs[0], start + offset, stop + offset, pick)
        return True

    def _parts(self, node: ir.Node) -> Iterator[tuple[ir.Value, int, int] | None]:
        """What is joined along the last dimension, from which column to which."""
        start = 0
        for part in node.inputs:
            shape = self._shapes.shape(part)
            if part is None or shape is None or not isinstance(shape[-1], int):
                yield None
                return
            yield part, start, start + shape[-1]
            start += shape[-1]

    def _offset(self, node: ir.Node, value: ir.Value, axis: int) -> int | None:
        """Where a Split or a Slice along ``axis`` alone has this output in its input."""
        if is_op(node, "Split"):
            shape = self._shapes.shape(value)
            along = node.attributes.get_int("axis", 0)
            if shape is None or along % len(shape) != axis:
                return None
            start = 0
            for output in node.outputs:
                if output is value:
                    return start
                size = (self._shapes.shape(output) or shape)[axis]
                if not isinstance(size, int):
                    return None
                start += size
        if is_op(node, "Slice"):
            return self._sliced(node, value, axis)
        return None

    def _sliced(self, node: ir.Node, value: ir.Value, axis: int) -> int | None:
        before, after = self._shapes.shape(node.inputs[0]), self._shapes.shape(value)
        parts = slices(self._shapes, node)
        if before is None or after is None or parts is None:
            return None
        offset = 0
        for along, (start, _, step) in parts.items():
            place = along % len(before)
            first = _from_front(start, before[place]) if isinstance(start, int) else None
            if first is None or step != 1:
                return None
            if place == axis:
                offset = first
            elif first != 0 or before[place] != after[place]:
                return None
        return offset

    def _picked(self, value: ir.Value) -> _Picked | None:
        """The tensor of three dimensions of which ``value`` is one place, not of the last."""
        node = value.producer()
        shape = self._shapes.shape(value)
        if node is None or shape is None or len(shape) != 2 or not node.inputs:
            return None
        if is_op(node, "Gather"):
            found = self._gathered(node, 0)
            return None if found is None else (*found, (node,))
        return self._squeezed(node, shape) if is_op(node, "Squeeze", "Reshape") else None

    def _squeezed(self, node: ir.Node, shape: Sequence[Size]) -> _Picked | None:
        """What is cut out of a tensor as one place, and loses that dimension then."""
        inner = node.inputs[0]
        cut, maker = self._shapes.shape(inner), None if inner is None else inner.producer()
        if inner is None or maker is None or cut is None or len(cut) != 3:
            return None
        axis = next((a for a in (0, 1) if cut[a] == 1 and (*cut[:a], *cut[a + 1 :]) == shape), None)
        if axis is None:
            return None
        if is_op(maker, "Gather"):
            found = self._gathered(maker, 1)
            same = found is not None and found[1].axis == axis
            return (*found, (node, maker)) if found is not None and same else None
        place = self._offset(maker, inner, axis)
        tensor = maker.inputs[0] if maker.inputs else None
        if place is None or tensor is None:
            return None
        return tensor, _Pick(axis, place), (node, maker)

    def _gathered(self, node: ir.Node, rank: int) -> tuple[ir.Value, _Pick] | None:
        """By one index, in an array of ``rank`` dimensions."""
        tensor, index = node.inputs[0], constant(node.inputs[1])
        shape = self._shapes.shape(tensor)
        if tensor is None or shape is None or index is None or len(shape) != 3:
            return None
        axis = node.attributes.get_int("axis", 0) % 3
        place = _from_front(int(index.item()), shape[axis]) if index.size == 1 else None
        if index.ndim != rank or axis == 2 or place is None:
            return None
        return tensor, _Pick(axis, place)


@dataclass
class _Sum:
    """What is added up on the way."""

    bias: np.ndarray
    weights: dict[Source, np.ndarray] = field(default_factory=dict)
    others: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)


def _row(array: np.ndarray, start: int, stop: int) -> np.ndarray | None:
    """The columns of a bias, where all its rows are the same one; None where they are not."""
    if array.ndim == 0 or array.shape[-1] == 1:
        return np.full(stop - start, array.flat[0]) if array.size == 1 else None
    rows = array.reshape(-1, array.shape[-1])
    if not len(rows) or (rows != rows[:1]).any() or stop > rows.shape[1]:
        return None
    row: np.ndarray = rows[0, start:stop]
    return row


def _along_last(node: ir.Node, rank: int) -> bool:
    return node.attributes.get_int("axis", 1) % rank == rank - 1


def _from_front(place: int, size: Size) -> int | None:
    if place >= 0:
        return place
    return place + size if isinstance(size, int) else None
