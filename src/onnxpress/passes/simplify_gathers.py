"""Gathers that take every element in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.indices import Affine, Indices
from onnxpress.model import Model
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import FREE_INITIALIZERS, Names, add_initializer, constant, forward, is_op
from onnxpress.views import Views

COMPARISONS = ("GreaterOrEqual",)


@dataclass(frozen=True)
class SimplifyGathers(Pass):
    """``Gather(x, [[0, 1], [2, 3]])`` → ``Reshape(x, [2, 2])``, and so wherever indices count.

    Indices are followed through ranges, reshapes, sums and products (``indices``), and so is
    GatherND by one range for each axis. ``GreaterOrEqual(i, 0)`` of indices i is True, and
    ``And(True, x)`` is x where that has the whole shape.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        rewrites = sum(work.simplify(node) for node in list(model.ir.graph))
        if rewrites:
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
        if is_op(node, *COMPARISONS):
            return self._compare(node)
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
        new = self._writer.reshaped(data, shape, made, node)
        if new is None or not forward(old, new):
            return False
        self._graph.remove(node, safe=True)
        return True

    def _compare(self, node: ir.Node) -> bool:
        where, limit = self._indices.of(node.inputs[0]), constant(node.inputs[1])
        if where is None or limit is None or limit.size != 1 or limit.item() > 0:
            return False
        if not where.never_negative or node.outputs[0].is_graph_output():
            return False
        name = self._names.fresh("true")
        true = add_initializer(self._graph, name, ir.tensor(np.array(True), name=name))
        for user, place in list(node.outputs[0].uses()):
            if not is_op(user, "And"):
                return False  # another reader may need the whole shape
            user.replace_input_with(place, true)
        return True

    def _and(self, node: ir.Node) -> bool:
        for place in (0, 1):
            known, other = constant(node.inputs[place]), node.inputs[1 - place]
            if known is None or other is None or known.size != 1 or not known.item():
                continue
            if self._shapes.shape(other) != self._shapes.shape(node.outputs[0]):
                continue
            if forward(node.outputs[0], other):
                self._graph.remove(node, safe=True)
                return True
        return False
