"""Remove what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir.passes.common as ir_passes

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.redundancy import dead_nodes
from onnxpress.values import discard, drop_unused


@dataclass(frozen=True)
class EliminateDead(Pass):
    """``(y, z) = (f(x), g(x))`` → ``y = f(x)`` where nothing reads ``z``.

    Goes for nodes, initializers (subgraphs included), model-local functions and opset imports.
    A node with one output in use stays as it is, with all its outputs.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph, functions = model.ir.graph, model.ir.functions
        dead = dead_nodes(model.ir)
        unread = sum(map(discard, dead))
        unread += sum(drop_unused(inner.initializers.values()) for inner in model.ir.graphs())
        names = len(functions) + len(graph.opset_imports)
        ir_passes.RemoveUnusedFunctionsPass()(model.ir)  # type: ignore[no-untyped-call]  # as onnx-ir has it
        ir_passes.RemoveUnusedOpsetsPass(process_functions=False)(model.ir)
        names -= len(functions) + len(graph.opset_imports)
        return Change(len(dead) + unread + names)
