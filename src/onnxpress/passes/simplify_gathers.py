"""Gathers that take every element in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.indices import Affine, Indices
from onnxpress.model import Model
from onnxpress.passes._rewriting import sweep
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shape_rules import BROADCASTING, broadcast
from onnxpress.shapes import Shapes
from onnxpress.values import FREE_INITIALIZERS, Names, constant, forward, is_op
from onnxpress.views import Views


@dataclass(frozen=True)
class SimplifyGathers(Pass):
    """``Gather(x, [[0, 1], [2, 3]])`` → ``Reshape(x, [2, 2])``, and so wherever indices count.

    Indices are followed through ranges, reshapes, sums and products (``indices``), and so is
    GatherND by one range for each axis. ``And(i ≥ 0, x)`` of indices i is x, where nothing
    needs the shape that i would give it.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        rewrites = sum(work.simplify(node) for node in list(model.ir.graph))
        if rewrites:
            sweep(model.ir)
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
        return Change(rewrites)


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._shapes, self._names = Shapes(model), Names(model)
        self._indices, self._views = Indices(self._shapes), Views(self._shapes)
        self._writer = ViewWriter(model.graph, self._shapes, self._names)

    def simplify(self, node: ir.Node) -> bool:
        """Whether ``node`` is something simpler now."""
        if is_op(node, "Gather"):
            return self._gather(node)
        if is_op(node, "GatherND"):
            return self._gather_nd(node)
        return is_op(node, "And") and self._and(node)

    def _gather(self, node: ir.Node) -> bool:
        data, where = self._shapes.shape(node.inputs[0]), self._indices.of(node.inputs[1])
        if data is None or where is None or not data:
            return False
        axis = node.attributes.get_int("axis", 0) % len(data)
        return where.counts_through(data[axis]) and self._reshape(node, data)

    def _gather_nd(self, node: ir.Node) -> bool:
        data, found = self._shapes.shape(node.inputs[0]), self._shapes.shape(node.inputs[1])
        parts = self._stacked(node.inputs[1])
        if data is None or found is None or parts is None or len(parts) > len(data):
            return False
        if node.attributes.get_int("batch_dims", 0):
            return False
        axes: list[int] = []
        for part, size in zip(parts, data, strict=False):
            if part is None or part.offset != 0 or len(part.axes) != 1:
                return False
            (axis,) = part.axes
            if part.strides[axis] != 1 or part.shape[axis] != size:
                return False
            axes.append(axis)
        others = [size for axis, size in enumerate(found[:-1]) if axis not in axes]
        in_order = axes == sorted(set(axes)) and all(size == 1 for size in others)
        return in_order and self._reshape(node, data)

    def _stacked(self, value: ir.Value | None) -> list[Affine | None] | None:
        """The indices for each axis, which are concatenated along the last axis of ``value``."""
        node = None if value is None else value.producer()
        if node is None or not is_op(node, "Concat"):
            return None
        shapes = [self._shapes.shape(part) for part in node.inputs]
        rank = len(shapes[0] or ())
        if any(shape is None or len(shape) != rank or shape[-1] != 1 for shape in shapes):
            return None
        if node.attributes.get_int("axis", 0) not in (-1, rank - 1):
            return None
        return [self._indices.of(part) for part in node.inputs]

    def _reshape(self, node: ir.Node, shape: Sequence[Size]) -> bool:
        """``node`` as a Reshape of its data."""
        old, data = node.outputs[0], node.inputs[0]
        made = self._shapes.shape(old)
        if made is None or data is None:
            return False
        view = self._views.of(data)
        source = self._shapes.shape(view.source)
        if view.keeps_order and source is not None:
            data, shape = view.source, source
        same = tuple(shape) == tuple(made)
        new = data if same else self._writer.reshaped(data, shape, made, node)
        if new is None or not forward(old, new):
            return False
        self._graph.remove(node, safe=True)
        return True

    def _and(self, node: ir.Node) -> bool:
        """``And(True, x)`` as x, where nothing needs the shape that True would give it."""
        for place in (0, 1):
            other = node.inputs[1 - place]
            if other is None or not self._is_true(node.inputs[place]):
                continue
            shape = self._shapes.shape(other)
            if shape is None or not self._tolerated(node.outputs[0], shape):
                continue
            if forward(node.outputs[0], other):
                self._graph.remove(node, safe=True)
                return True
        return False

    def _is_true(self, value: ir.Value | None) -> bool:
        known = constant(value)
        if known is not None:
            return bool(known.all())
        node = None if value is None else value.producer()
        if node is None or not is_op(node, "GreaterOrEqual"):
            return False
        where, limit = self._indices.of(node.inputs[0]), constant(node.inputs[1])
        return (
            where is not None
            and where.never_negative
            and limit is not None
            and bool((limit <= 0).all())
        )

    def _tolerated(self, value: ir.Value, shape: Sequence[Size]) -> bool:
        """Whether all that reads ``value`` comes out the same where its shape is ``shape``."""
        if self._shapes.shape(value) == tuple(shape):
            return True
        if value.is_graph_output():
            return False
        return all(self._stays(user, value, shape) for user, _ in value.uses())

    def _stays(self, user: ir.Node, value: ir.Value, shape: Sequence[Size]) -> bool:
        if not is_op(user, *BROADCASTING):
            return False
        shapes = [shape if one is value else self._shapes.shape(one) for one in user.inputs]
        made = broadcast(*(one for one in shapes if one is not None))
        if None in shapes or None in made:
            return False
        return self._tolerated(user.outputs[0], [size for size in made if size is not None])
