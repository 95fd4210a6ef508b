"""The bias before a Gelu, as part of it."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.model import Model
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import constant, is_op

OPERATORS = {"none": "BiasGelu", "tanh": "FastGelu"}
"""Approximation → ONNX Runtime's operator of x and b."""


@dataclass(frozen=True)
class FuseBiasGelu(Pass):
    """``Gelu(x + b)`` → ``BiasGelu(x, b)``, ``FastGelu(x, b)`` for the approximation by tanh.

    For ONNX Runtime. b is a constant of one dimension, the last one's size.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        for node in list(model.ir.graph):
            data = node.inputs[0] if is_op(node, "Gelu") else None
            added = None if data is None else data.producer()
            if data is None or added is None or not is_op(added, "Add") or len(data.uses()) != 1:
                continue
            if data.is_graph_output():
                continue
            side = 1 if constant(added.inputs[1]) is not None else 0
            bias = constant(added.inputs[side])
            if bias is None or bias.ndim != 1 or bias.size == 1:
                continue
            kind = node.attributes.get_string("approximate", "none")
            replace(
                node.outputs[0], OPERATORS[kind], [added.inputs[1 - side], added.inputs[side]],
                domain=CONTRIB, gone=[node, added],
            )  # fmt: skip
            rewrites += 1
        if rewrites:
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites)
