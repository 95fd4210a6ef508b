"""Nodes that cost time and change nothing."""

from __future__ import annotations

import onnx_ir as ir

from onnxpress.check import Check, Finding
from onnxpress.model import Model
from onnxpress.redundancy import NoOps, dead_nodes
from onnxpress.values import can_forward, name_of


class RedundantNodes(Check):
    """No-ops (``Identity``, ``Dropout``, same-type ``Cast``, ``x · 1``, …) and unread nodes."""

    def findings(self, model: Model) -> list[Finding]:
        no_ops = NoOps(model.ir)
        dead = set(dead_nodes(model.ir))
        return [
            finding
            for node in model.nodes()
            if (finding := _dead_node(node) if node in dead else _no_op(node, no_ops))
        ]


def _dead_node(node: ir.Node) -> Finding:
    what = "no output of the model depends on it"
    return _finding(node, what, "eliminate_dead removes it")


def _no_op(node: ir.Node, no_ops: NoOps) -> Finding | None:
    """None for a no-op that must stay: ONNX needs it between an input and an output."""
    found = no_ops.find(node)
    if found is None or not can_forward(node.outputs[0], found[0]):
        return None
    return _finding(node, found[1], "eliminate_identity removes it")


def _finding(node: ir.Node, what: str, fix: str) -> Finding:
    return Finding(
        check="redundant_nodes",
        level="info",
        where=name_of(node),
        op=node.op_type,
        what=what,
        fix=fix,
    )
