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
        missed, rewrites = [], 0
        for graph in model.ir.graphs():
            for node in list(graph):
                if not is_op(node, "Concat"):
                    continue
                inner = [one for one in map(_concat, node.inputs) if one is not None]
                fitting = [one for one in inner if _axis(one, shapes) == _axis(node, shapes)]
                alone = []
                for one in dict.fromkeys(fitting):
                    others = [user for user, _ in one.outputs[0].uses() if user is not node]
                    if others or one.outputs[0].is_graph_output() or one.graph is not graph:
                        names = (name_of(node), name_of(one))
                        blocking = name_of(others[0]) if others else ""
                        missed.append(
                            Missed(
                                "one Concat", names, "another node reads the inner one", blocking
                            )
                        )
                    else:
                        alone.append(one)
                if alone and _axis(node, shapes) is not None:
                    shapes.learn(_merge(node, alone))
                    rewrites += len(alone)
        return Change(rewrites, missed=tuple(missed))


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
