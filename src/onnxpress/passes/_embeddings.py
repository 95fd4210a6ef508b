"""What the addends of a sum of embeddings are: rows of tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Dim, Size, minimum
from onnxpress.indices import Indices
from onnxpress.shape_rules import Shape, slices
from onnxpress.shapes import Shapes
from onnxpress.values import constant, constant_tensor, is_op
from onnxpress.views import Views


@dataclass(frozen=True)
class Addend:
    """``table[ids]`` of a constant table [rows, size] and ids [batch or 1, length].

    Without ids the table's rows ``start``, ``start + 1``, … of each place, or ``start`` alone
    where ``everywhere``. The table may have axes of size 1 before the two, or no axis of rows.
    """

    table: ir.Value
    ids: ir.Value | None = None
    start: int = 0
    everywhere: bool = False

    def rows(self) -> np.ndarray:
        """The table from ``start`` on, as [rows, size]."""
        array = constant(self.table)
        assert array is not None
        return array.reshape(-1, array.shape[-1])[self.start :]


class Addends:
    """Of one model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes, self._views, self._indices = shapes, Views(shapes), Indices(shapes)

    def read(self, value: ir.Value, total: Shape) -> Addend | None:
        """``value`` as an addend of a sum of the shape ``total``: [batch, length, size]."""
        view = self._views.of(value)
        source = view.source if view.keeps_order else value
        own, shape, node = self._shapes.shape(source), self._shapes.shape(value), source.producer()
        if own is None or shape is None or own[-1:] != total[-1:] or shape[-1:] != total[-1:]:
            return None
        if constant_tensor(source) is not None:
            return self._whole(source, shape, total)
        if node is None or constant_tensor(node.inputs[0]) is None:
            return None
        if is_op(node, "Gather"):
            return self._gathered(node, shape, total)
        return self._sliced(node, shape, total) if is_op(node, "Slice") else None

    def _whole(self, table: ir.Value, shape: Shape, total: Shape) -> Addend | None:
        """A constant, as a row or as those of all places."""
        places = [size for size in shape[:-1] if size != 1]
        if not places:
            return Addend(table, everywhere=True)
        in_order = shape[-2:] == total[-2:] and places == [total[1]]
        return Addend(table) if in_order else None

    def _gathered(self, node: ir.Node, shape: Shape, total: Shape) -> Addend | None:
        table, ids = node.inputs[0], node.inputs[1]
        rows, where = self._shapes.shape(table), self._indices.of(ids)
        if table is None or rows is None or len(rows) != 2:
            return None
        if node.attributes.get_int("axis", 0) not in (0, -2):
            return None
        where = where if where is not None and where.never_negative else None
        start = None if where is None else where.offset
        if where is not None and isinstance(start, int) and not where.axes:
            known = isinstance(rows[0], int) and start < rows[0]
            return Addend(table, start=start, everywhere=True) if known else None
        batch, length = (1, 1, *shape[:-1])[-2:]
        if batch not in (1, total[0]) or not _fits(length, total[1]) or len(shape) > 3:
            return None
        if where is not None and isinstance(start, int):
            along = len(where.shape) - 1
            if where.axes == [along] and where.strides[along] == 1:
                return Addend(table, start=start)
        plain = self._shapes.shape(ids)
        return Addend(table, ids) if plain is not None and len(plain) == 2 else None

    def _sliced(self, node: ir.Node, shape: Shape, total: Shape) -> Addend | None:
        """The first rows of a table, which is [rows, size] or [1, rows, size]."""
        table, parts = node.inputs[0], slices(self._shapes, node)
        whole = self._shapes.shape(table)
        if (
            table is None
            or whole is None
            or len(whole) not in (2, 3)
            or whole[:-2] not in ((), (1,))
        ):
            return None
        axis = len(whole) - 2
        if parts is None or {place % len(whole) for place in parts} != {axis}:
            return None
        ((start, _, step),) = parts.values()
        if not isinstance(start, int) or start < 0 or step != 1:
            return None
        places = (1, 1, *shape[:-1])[-2:]
        return Addend(table, start=start) if places[0] == 1 and _fits(places[1], total[1]) else None


def _fits(size: Size, length: Size) -> bool:
    """Whether what has ``size`` places can be added to what has ``length``, and none is repeated.

    ``size`` may be the least of ``length`` and of the rows of a table, of which there are several:
    where they differ, the sum is an error.
    """
    if size == length:
        return True
    symbol = size.symbol if isinstance(size, Dim) else None
    return symbol is not None and any(
        isinstance(bound, int) and bound > 1 and size == minimum(bound, length)
        for bound in symbol.bounds
    )
