"""Reductions that keep or drop dimensions as what reads them wants."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.model import Model
from onnxpress.passes._layouts import REDUCTIONS, axes_of
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import can_forward, discard, forward, is_op, name_of
from onnxpress.views import RESHAPES


@dataclass(frozen=True)
class FuseReducedViews(Pass):
    """``Flatten(ReduceMean(x, keepdims=1))`` → ``ReduceMean(x, keepdims=0)``, and back.

    For all reductions, and for every Reshape, Flatten, Squeeze or Unsqueeze that only drops the
    dimensions of size 1 that the reduction left, or puts them back.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes = Shapes(model.ir)
        missed, rewrites = [], 0
        for graph in model.ir.graphs():
            for node in list(graph):
                wanted = _other_shape(node, shapes)
                views = _views(node, wanted, shapes) if wanted is not None else []
                if not views:
                    continue
                blocking = _blocking(node, views)
                if blocking is not None:
                    names = (name_of(node), *map(name_of, views))
                    why = "another node reads it too"
                    missed.append(Missed("reduction in one", names, why, name_of(blocking)))
                    continue
                _fuse(node, views)
                rewrites += 1
        return Change(rewrites, missed=tuple(missed))


def _other_shape(node: ir.Node, shapes: Shapes) -> tuple[Size, ...] | None:
    """The shape of a reduction if it dropped what it keeps, or kept what it drops."""
    shape = shapes.shape(node.inputs[0]) if is_op(node, *REDUCTIONS) else None
    axes = None if shape is None else axes_of(node, len(shape))
    if shape is None or axes is None:
        return None
    if node.attributes.get_int("keepdims", 1) == 1:
        return tuple(size for axis, size in enumerate(shape) if axis not in axes)
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def _views(node: ir.Node, wanted: tuple[Size, ...], shapes: Shapes) -> list[ir.Node]:
    return [
        user
        for user, place in node.outputs[0].uses()
        if place == 0 and is_op(user, *RESHAPES) and user.graph is node.graph
        and shapes.shape(user.outputs[0]) == wanted
    ]  # fmt: skip


def _blocking(node: ir.Node, views: list[ir.Node]) -> ir.Node | None:
    """What else reads the reduction, or has to be an output of its own."""
    value = node.outputs[0]
    if value.is_graph_output():
        return node
    outputs = [view for view in views if view.outputs[0].is_graph_output()]
    twice = [
        view for view in outputs if len(outputs) > 1 or not can_forward(view.outputs[0], value)
    ]
    others = [user for user, _ in value.uses() if user not in views]
    return next(iter([*others, *twice]), None)


def _fuse(node: ir.Node, views: list[ir.Node]) -> None:
    kept = node.attributes.get_int("keepdims", 1) == 1
    node.attributes["keepdims"] = ir.AttrInt64("keepdims", 0 if kept else 1)
    node.outputs[0].shape = views[0].outputs[0].shape
    for view in views:
        assert forward(view.outputs[0], node.outputs[0])
        discard(view)
