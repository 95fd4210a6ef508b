"""Nodes that cost time and change nothing."""

from __future__ import annotations

import onnx_ir as ir

from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of, output_of
from onnxpress.model import Model
from onnxpress.redundancy import NoOps, dead_nodes
from onnxpress.values import can_forward, name_of

UNREAD = "no output of the model depends on it"


class RedundantNodes(Check):
    """No-ops (``Identity``, ``Dropout``, same-type ``Cast``, ``x · 1``, …) and unread nodes."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        no_ops = NoOps(model.ir)
        dead = set(dead_nodes(model.ir))
        fix = f"onnxpress optimize {file_of(model)} -o {output_of(model, 'optimized')}"
        return [
            Finding("redundant_nodes", "info", name_of(node), node.op_type, what, fix)
            for node in model.nodes()
            if (what := UNREAD if node in dead else _no_op(node, no_ops))
        ]


def _no_op(node: ir.Node, no_ops: NoOps) -> str:
    """Empty for a no-op that must stay: ONNX needs it between an input and an output."""
    found = no_ops.find(node)
    if found is None or not can_forward(node.outputs[0], found[0]):
        return ""
    return found[1]
