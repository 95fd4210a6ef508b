"""Linear layers on the last dimension, without the reshapes that Gemm's two dimensions need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, drop_unused, forward, is_op
from onnxpress.views import View, Views

BATCHED = 3
"""MatMul's first operand has at least as many dimensions, or there is nothing to gain."""


@dataclass(frozen=True)
class UnflattenGemm(Pass):
    """``Reshape(Gemm(Reshape(x, [-1, k]), W, b), […, n])`` → ``x W + b``.

    Where x has more than two dimensions, the last of them k, and only reshapes read the Gemm, or
    the MatMul of two dimensions.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes, names = Shapes(model.ir), Names(model.ir)
        views, writer = Views(shapes), ViewWriter(model.ir.graph, shapes, names)
        rewrites = 0
        for node in list(model.ir.graph):
            if not is_op(node, "Gemm", "MatMul") or not _plain(node):
                continue
            if len(shapes.shape(node.inputs[1]) or ()) != 2 or not _adds_a_row(node, shapes):
                continue
            view = views.of(node.inputs[0])  # type: ignore[arg-type]  # _plain has looked
            if _last_axis_stays(view) and len(view.before) >= BATCHED:
                rewrites += _unflatten(node, view, shapes, names, writer)
        return Change(rewrites)


def _plain(node: ir.Node) -> bool:
    """Whether it is ``A W + b``, or ``A Wᵀ + b`` of a constant W, and only reshapes read it."""
    read = node.attributes
    value = node.outputs[0]
    return (
        read.get_float("alpha", 1.0) == 1
        and (read.get_float("beta", 1.0) == 1 or len(node.inputs) < 3)
        and not read.get_int("transA", 0)
        and (not read.get_int("transB", 0) or constant(node.inputs[1]) is not None)
        and node.inputs[0] is not None
        and not value.is_graph_output()
        and all(is_op(user, "Reshape") and place == 0 for user, place in value.uses())
    )


def _adds_a_row(node: ir.Node, shapes: Shapes) -> bool:
    """Whether what it adds, if anything, is the same in all rows."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    shape = shapes.shape(node.inputs[2])
    return shape is not None and (len(shape) < 2 or shape[0] == 1)


def _last_axis_stays(view: View) -> bool:
    return (
        bool(view.nodes)
        and view.keeps_order
        and len(view.after) == 2
        and view.before[-1] == view.after[-1]
    )


def _unflatten(node: ir.Node, view: View, shapes: Shapes, names: Names, writer: ViewWriter) -> bool:
    weight, old = node.inputs[1], node.outputs[0]
    source, made = shapes.shape(view.source), shapes.shape(old)
    assert weight is not None
    assert source is not None
    if made is None:
        return False
    if node.attributes.get_int("transB", 0):
        array = np.ascontiguousarray(constant(weight).T)  # type: ignore[union-attr]  # _plain
        name = names.fresh(f"{weight.name}_transposed")
        assert node.graph is not None
        weight = add_initializer(node.graph, name, ir.tensor(array, name=name))
    value = _insert(node, "MatMul", [view.source, weight], names, shapes)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        value = _insert(node, "Add", [value, node.inputs[2]], names, shapes)
    flat = writer.reshaped(value, (*source[:-1], made[-1]), made, node)
    if flat is None:
        return False
    name, inputs = str(old.name), list(node.inputs)
    forward(old, flat)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    drop_unused(inputs)
    flat.name = names.fresh(f"{name}_flat")
    return True


def _insert(
    before: ir.Node, op: str, inputs: list[ir.Value | None], names: Names, shapes: Shapes
) -> ir.Value:
    node = ir.node(op, inputs, name=names.fresh(f"{before.name or before.outputs[0].name}_{op}"))
    value = node.outputs[0]
    value.name, value.type = names.fresh(f"{before.outputs[0].name}_{op}"), before.outputs[0].type
    before.prepend(inherit(node, before))
    shapes.learn(node)
    return value
