"""int8 weights, float arithmetic in the file; the engine may do better."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    WEIGHT_INPUT,
    channel_axis,
    check_bits,
    check_scales,
    constant_weight,
    dequantized,
    quantize_weight,
)
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, drop_unused, name_of, opset


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """``Op(x, W)`` → ``Op(x, DequantizeLinear(W_q, s))`` with W_q int8 and s per output channel.

    For Conv, ConvTranspose, Gemm and MatMul by a constant. ``bits`` (2 to 8) narrows the values,
    not their storage; ``scales=mse`` seeks the scales with the least squared error. OpenVINO
    multiplies such weights in int8, quantising activations at run time; ONNX Runtime makes blocks
    of MatMul's and restores those of convolutions at every run: its CNNs get smaller and slower.
    Nodes named in ``exclude``
    stay float.
    """

    rtol = None
    bits: int = 8
    scales: str = "minmax"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bits("bits", self.bits)
        check_scales("scales", self.scales)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph = model.ir.graph
        if opset(model.ir) < PER_CHANNEL_OPSET:
            return Change(0, (f"per-channel weights need opset {PER_CHANNEL_OPSET}",))
        done: dict[tuple[str, int], ir.Value] = {}
        names, rewrites = Names(model.ir), 0
        for node in list(graph):
            weight = constant_weight(node)
            if weight is None or name_of(node) in self.exclude:
                continue
            value, axis = node.inputs[WEIGHT_INPUT[node.op_type]], channel_axis(node, weight)
            assert value is not None
            assert value.name is not None
            key = (value.name, axis)
            if key not in done:
                quantized = quantize_weight(weight, axis, self.bits, scales=self.scales)
                done[key] = dequantized(graph, names, value, quantized, before=node)
            node.replace_input_with(WEIGHT_INPUT[node.op_type], done[key])
            rewrites += 1
        drop_unused(graph.initializers.values())
        return Change(rewrites)
