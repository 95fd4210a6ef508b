"""The bias before a Gelu, as part of it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op

OPERATORS = {"none": "BiasGelu", "tanh": "FastGelu"}
"""Approximation → ONNX Runtime's operator of x and b."""

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class FuseBiasGelu(Pass):
    """``Gelu(x + b)`` → ``BiasGelu(x, b)``, ``FastGelu(x, b)`` for the approximation by tanh.

    For ONNX Runtime, whose own operators are read as well. b is a constant of one dimension, the
    last one's size. In float32 and float16, for which there are kernels.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites, shapes = 0, Shapes(model.ir)
        for node in list(model.ir.graph):
            kind = _kind(node)
            data = node.inputs[0] if kind else None
            added = None if data is None else data.producer()
            if data is None or added is None or not is_op(added, "Add") or len(data.uses()) != 1:
                continue
            if data.is_graph_output() or shapes.dtype(data) not in TYPES:
                continue
            side = 1 if constant(added.inputs[1]) is not None else 0
            bias, other = constant(added.inputs[side]), shapes.shape(added.inputs[1 - side])
            if bias is None or bias.ndim != 1 or not other or other[-1] != bias.size:
                continue
            replace(
                node.outputs[0], OPERATORS[kind], [added.inputs[1 - side], added.inputs[side]],
                domain=CONTRIB, gone=[node, added],
            )  # fmt: skip
            rewrites += 1
        if rewrites:
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites)


def _kind(node: ir.Node) -> str:
    """Which Gelu ``node`` is; empty for all other operators."""
    if is_op(node, "Gelu"):
        return node.attributes.get_string("approximate", "none")
    if node.domain == CONTRIB and len(node.inputs) == 1:
        return {"Gelu": "none", "FastGelu": "tanh"}.get(node.op_type, "")
    return ""
