"""Remove nodes that give back what they got."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.redundancy import NoOps
from onnxpress.values import discard, forward


@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """``Identity(x)`` → ``x``, and so for every node whose output always equals an input.

    ``Dropout(x)`` at inference with an unread mask; ``Cast(x, type(x))``; ``Transpose(x, 0 … n)``;
    ``Reshape(x, shape(x))``; ``x + 0``, ``x - 0``, ``x · 1``, ``x / 1``, ``x ¹``, also where a
    node fills a tensor with that number. A graph output keeps its name; a node stays where one
    value would have to be two outputs, or an input or constant of the graph its output.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        no_ops = NoOps(model.ir)
        for node in list(ir.traversal.RecursiveGraphIterator(model.ir.graph)):
            found = no_ops.find(node)
            if found is None or not forward(node.outputs[0], found[0]):
                continue
            discard(node)
            rewrites += 1
        return Change(rewrites)
