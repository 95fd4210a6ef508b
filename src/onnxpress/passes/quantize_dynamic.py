"""int8 arithmetic without calibration: activations are quantised while the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.quantization import (
    add_constant,
    channel_axis,
    check_bits,
    constant_weight,
    quantize_weight,
)
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import drop_unused, opset

OPSET = 11
"""The first opset with DynamicQuantizeLinear."""


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """``MatMul(x, W)`` → ``Cast(MatMulInteger(x_q, W_q, x_z)) · (x_s · w_s)``, the same for Gemm.

    ``x_q, x_s, x_z = DynamicQuantizeLinear(x)`` is uint8 and shared by all readers of x; W_q is
    int8 and symmetric per output channel, in ``weight_bits`` bits (7 where the CPU saturates).
    Gemm must have alpha = beta = 1 and transA = 0; its C is added afterwards.
    """

    rtol = None
    weight_bits: int = 8

    def __post_init__(self) -> None:
        check_bits("weight_bits", self.weight_bits)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph = model.ir.graph
        quantized: dict[str, ir.Node] = {}
        if opset(model.ir) < OPSET:
            return Change(0, (f"dynamic quantisation needs opset {OPSET}",))
        rewrites, refusals = 0, []
        for node in list(graph):
            weight = constant_weight(node)
            if weight is None or node.op_type not in ("MatMul", "Gemm"):
                continue
            reason = _refusal(node, weight)
            if reason:
                refusals.append(f"{node.name}: {reason}")
                continue
            self._replace(graph, node, weight, quantized)
            rewrites += 1
        drop_unused(graph.initializers.values())
        return Change(rewrites, tuple(refusals))

    def _replace(
        self, graph: ir.Graph, node: ir.Node, weight: np.ndarray, quantized: dict[str, ir.Node]
    ) -> None:
        source, old, result = node.inputs[0], node.inputs[1], node.outputs[0]
        assert source is not None
        assert old is not None
        assert source.name is not None
        axis = channel_axis(node, weight)
        small = quantize_weight(weight, axis, self.weight_bits)
        values = np.ascontiguousarray(small.values.T) if axis == 0 else small.values
        if source.name not in quantized:
            quantize = ir.node("DynamicQuantizeLinear", [source], num_outputs=3)
            node.prepend([quantize])
            quantized[source.name] = quantize
        x, x_scale, x_zero = quantized[source.name].outputs
        w = add_constant(graph, f"{old.name}_int8", values)
        w_scale = add_constant(graph, f"{old.name}_scale", small.scale)
        w_zero = add_constant(graph, f"{old.name}_zero", np.zeros(small.scale.shape, np.int8))
        product = ir.node(
            "MatMulInteger",
            [x, w, x_zero, w_zero],
            name=f"{node.name}_quant" if node.name else None,
        )
        cast = ir.node("Cast", [product.outputs[0]], {"to": ir.DataType.FLOAT.value})
        scale = ir.node("Mul", [x_scale, w_scale])
        scaled = ir.node("Mul", [cast.outputs[0], scale.outputs[0]])
        nodes = [product, cast, scale, scaled]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            nodes.append(ir.node("Add", [scaled.outputs[0], node.inputs[2]]))
        for new in nodes:
            new.metadata_props.update(node.metadata_props)
        node.prepend(nodes)
        replacement = nodes[-1].outputs[0]
        replacement.shape, replacement.type = result.shape, result.type
        name, result.name = result.name, None
        result.replace_all_uses_with(replacement, replace_graph_outputs=True)
        replacement.name = name
        graph.remove(node, safe=True)


def _refusal(node: ir.Node, weight: np.ndarray) -> str:
    if weight.ndim != 2:
        return f"its weight has {weight.ndim} dimensions"
    attributes = node.attributes
    if attributes.get_int("transA", 0):
        return "transA is set"
    if attributes.get_float("alpha", 1.0) != 1.0 or attributes.get_float("beta", 1.0) != 1.0:
        return "alpha or beta is not 1"
    return ""
