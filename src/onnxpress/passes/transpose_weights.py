"""Weights in the layout that their product reads, also where something else reads them as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.quantization import WEIGHT_INPUT, add_constant
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, constant_tensor, discard, drop_unused, is_op, name_of


@dataclass(frozen=True)
class TransposeWeights(Pass):
    """``MatMul(x, Transpose(W))`` → ``MatMul(x, Wᵀ)``, whatever else reads W; also Gemm and Conv.

    For what is about to quantise both: a table of words that is tied to the output layer is not
    to be had in int8 by rows and by columns at once. Until then the file holds W twice. Nodes
    named in ``exclude`` keep their Transpose.
    """

    exclude: tuple[str, ...] = ()

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph, names, rewrites = model.ir.graph, Names(model.ir), 0
        for node in list(graph):
            source = node.inputs[0] if is_op(node, "Transpose") else None
            tensor, output = constant_tensor(source), node.outputs[0]
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or output.is_graph_output():
                continue
            uses = output.uses()
            if not uses or any(index != WEIGHT_INPUT.get(user.op_type) for user, index in uses):
                continue
            if any(name_of(user) in self.exclude for user, _ in uses):
                continue
            turned = tensor.numpy().transpose(node.attributes.get_ints("perm", None))
            stem = f"{output.name}_weight"
            output.replace_all_uses_with(
                add_constant(graph, names, stem, np.ascontiguousarray(turned))
            )
            discard(node)
            drop_unused([source])
            rewrites += 1
        return Change(rewrites)
