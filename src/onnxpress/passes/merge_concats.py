"""Concatenations of concatenations as one."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import is_op, name_of


@dataclass(frozen=True)
class MergeConcats(Pass):
    """``Concat(a, Concat(b, c))`` → ``Concat(a, b, c)``, along one dimension.

    Only where nothing else reads the inner one.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes = Shapes(model.ir)
        rewrites = 0
        while True:  # two that read an inner one may have become one
            missed: list[Missed] = []
            found = [
                _merge_into(node, shapes, missed)
                for graph in model.ir.graphs()
                for node in list(graph)
                if is_op(node, "Concat")
            ]
            rewrites += sum(found)
            if not any(found):
                return Change(rewrites, missed=tuple(missed))


def _merge_into(node: ir.Node, shapes: Shapes, missed: list[Missed]) -> int:
    """How many of the inputs of ``node`` were concatenations of their own."""
    axis, alone = _axis(node, shapes), []
    for one in dict.fromkeys(map(_concat, node.inputs)):
        if one is None or axis is None or _axis(one, shapes) != axis:
            continue
        others = [user for user, _ in one.outputs[0].uses() if user is not node]
        if others or one.outputs[0].is_graph_output() or one.graph is not node.graph:
            why, blocking = "another node reads the inner one", name_of(others[0]) if others else ""
            missed.append(Missed("one Concat", (name_of(node), name_of(one)), why, blocking))
        else:
            alone.append(one)
    if alone:
        shapes.learn(_merge(node, alone))
    return len(alone)


def _concat(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and is_op(node, "Concat") else None


def _axis(node: ir.Node, shapes: Shapes) -> int | None:
    """Counted from the front; None where the rank is not known."""
    shape = shapes.shape(node.inputs[0])
    return None if shape is None else node.attributes.get_int("axis", 1) % len(shape)


def _merge(node: ir.Node, inner: list[ir.Node]) -> ir.Node:
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        one = _concat(value)
        inputs += one.inputs if one is not None and one in inner else [value]
    axis = node.attributes.get_int("axis", 1)
    return replace(node.outputs[0], "Concat", inputs, {"axis": axis}, gone=[node, *inner])
