"""int8 arithmetic without calibration: activations are quantised while the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.quantization import (
    add_constant,
    channel_axis,
    check_bits,
    constant_weight,
    linear_refusal,
    quantize_weight,
    unsaturated_scale,
)
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, drop_unused, name_of, opset

OPSET = 11
"""The first opset with DynamicQuantizeLinear."""


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """``MatMul(x, W)`` → ``Cast(MatMulInteger(x_q, W_q, x_z)) · (x_s · w_s)``, the same for Gemm.

    ``x_q, x_s, x_z = DynamicQuantizeLinear(x)`` is uint8 and shared by all readers of x; W_q is
    int8 and symmetric per output channel, in ``weight_bits`` bits; with ``reduce_range`` its scale
    is the least at which no products saturate on CPUs that add two of them in 16 bits.
    Gemm must have alpha = beta = 1 and transA = 0; its C is added afterwards. Nodes named in
    ``exclude`` stay float.
    """

    rtol = None
    weight_bits: int = 8
    exclude: tuple[str, ...] = ()
    reduce_range: bool = False

    def __post_init__(self) -> None:
        check_bits("weight_bits", self.weight_bits)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < OPSET:
            return Change(0, (f"dynamic quantisation needs opset {OPSET}",))
        products = _Products(model.ir, self.weight_bits, reduce_range=self.reduce_range)
        rewrites, refusals = 0, []
        for node in list(model.ir.graph):
            weight = constant_weight(node)
            if weight is None or node.op_type not in ("MatMul", "Gemm"):
                continue
            if name_of(node) in self.exclude:
                continue
            reason = linear_refusal(node, weight)
            if reason:
                refusals.append(f"{name_of(node)}: {reason}")
                continue
            products.replace(node, weight)
            rewrites += 1
        drop_unused(model.ir.graph.initializers.values())
        return Change(rewrites, tuple(refusals))


class _Products:
    """Quantised inputs and weights so far: one of each, shared by all that read it."""

    def __init__(self, model: ir.Model, bits: int, *, reduce_range: bool) -> None:
        self._graph, self._names, self._bits = model.graph, Names(model), bits
        self._reduce_range = reduce_range
        self._inputs: dict[ir.Value, ir.Node] = {}
        self._weights: dict[tuple[ir.Value, int], list[ir.Value]] = {}

    def replace(self, node: ir.Node, weight: np.ndarray) -> None:
        """Put the integer product in the place of ``node``, a MatMul or Gemm."""
        result = node.outputs[0]
        x, x_scale, x_zero = self._input(node)
        w, w_scale, w_zero = self._weight(node, weight)
        name = f"{node.name}_quant" if node.name else None
        product = ir.node("MatMulInteger", [x, w, x_zero, w_zero], name=name)
        cast = ir.node("Cast", [product.outputs[0]], {"to": ir.DataType.FLOAT.value})
        scale = ir.node("Mul", [x_scale, w_scale])
        scaled = ir.node("Mul", [cast.outputs[0], scale.outputs[0]])
        nodes = [product, cast, scale, scaled]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            nodes.append(ir.node("Add", [scaled.outputs[0], node.inputs[2]]))
        for new in nodes:
            new.metadata_props.update(node.metadata_props)
            new.outputs[0].name = self._names.fresh(f"{result.name}_{new.op_type}")
        node.prepend(nodes)
        replacement = nodes[-1].outputs[0]
        replacement.shape, replacement.type = result.shape, result.type
        name, result.name = result.name, None
        result.replace_all_uses_with(replacement, replace_graph_outputs=True)
        replacement.name = name
        self._graph.remove(node, safe=True)

    def _input(self, node: ir.Node) -> Sequence[ir.Value]:
        source = node.inputs[0]
        assert source is not None
        if source not in self._inputs:
            quantize = ir.node("DynamicQuantizeLinear", [source], num_outputs=3)
            for output, part in zip(quantize.outputs, ("quantized", "scale", "zero"), strict=True):
                output.name = self._names.fresh(f"{source.name}_{part}")
            node.prepend([quantize])
            self._inputs[source] = quantize
        return self._inputs[source].outputs

    def _weight(self, node: ir.Node, weight: np.ndarray) -> Sequence[ir.Value]:
        """The int8 values with the output channels last, their scales and zero points."""
        old, axis = node.inputs[1], channel_axis(node, weight)
        assert old is not None
        if (old, axis) not in self._weights:
            least = unsaturated_scale(weight, axis) if self._reduce_range else None
            small = quantize_weight(weight, axis, self._bits, least)
            parts = {
                "int8": np.ascontiguousarray(small.values.T) if axis == 0 else small.values,
                "scale": small.scale,
                "zero": np.zeros(small.scale.shape, np.int8),
            }
            self._weights[old, axis] = [
                add_constant(self._graph, self._names, f"{old.name}_{part}", array)
                for part, array in parts.items()
            ]
        return self._weights[old, axis]
