"""Chains of reshapes and transpositions in as few nodes as do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._view_writer import ViewWriter, cost
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    can_forward,
    forward,
    is_op,
    opset,
)
from onnxpress.views import RESHAPES, View, Views

INPUT_SHAPE_OPSET = 5
"""The first opset whose Reshape takes the shape as an input."""


@dataclass(frozen=True)
class SimplifyViews(Pass):
    """``Transpose(Transpose(x, p), q)`` → ``Transpose(x, p∘q)``, and so for every chain.

    A chain of Reshape, Flatten, Squeeze, Unsqueeze and Transpose is what it does to the factors
    of the axes: nothing, one Reshape, one Transpose, or both. It is written anew where that takes
    fewer nodes, or as many and fewer transpositions. Dimensions that move only past axes of size
    1 do not move.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < INPUT_SHAPE_OPSET:
            return Change()
        work = _Work(model.ir)
        rewrites = sum(work.simplify(node) for node in reversed(list(model.ir.graph)))
        if rewrites:
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
        return Change(rewrites)


class _Work:
    def __init__(self, model: ir.Model) -> None:
        shapes = Shapes(model)
        self._graph = model.graph
        self._views = Views(shapes)
        self._writer = ViewWriter(model.graph, shapes, Names(model))

    def simplify(self, node: ir.Node) -> bool:
        """Whether the chain that ends with ``node`` is another one now."""
        value = node.outputs[0]
        if not is_op(node, "Transpose", *RESHAPES) or not _ends(value):
            return False
        view = self._views.of(value)
        old = _dying(view)
        if not old:
            return False
        steps = self._writer.best(view)
        if steps is None or cost(steps) >= (len(old), _transposes(old)):
            return False
        if not steps and not can_forward(value, view.source):
            return False
        assert forward(value, self._writer.write(view, steps, node, str(value.name)))
        self._graph.remove(node, safe=True)
        _drop(view.nodes[:-1])
        return True


def _ends(value: ir.Value) -> bool:
    """Whether something else than a view reads ``value``."""
    return value.is_graph_output() or any(
        not is_op(user, "Transpose", *RESHAPES) or index > 0 for user, index in value.uses()
    )


def _dying(view: View) -> list[ir.Node]:
    """The nodes of the chain that only its end reads."""
    dying: list[ir.Node] = []
    for node in reversed(view.nodes):
        value = node.outputs[0]
        if dying and (value.is_graph_output() or len(value.uses()) > 1):
            break
        dying.append(node)
    return dying


def _drop(nodes: Sequence[ir.Node]) -> None:
    for node in reversed(nodes):
        value = node.outputs[0]
        if node.graph is None or value.uses() or value.is_graph_output():
            return
        node.graph.remove(node, safe=True)


def _transposes(nodes: Sequence[ir.Node]) -> int:
    return sum(is_op(node, "Transpose") for node in nodes)
