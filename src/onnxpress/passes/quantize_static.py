"""int8 arithmetic between calibrated activations, written as QuantizeLinear/DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._placed import CUTS, Placed
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    SIXTEEN_BIT_OPSET,
    check_activations,
    check_bits,
    check_scales,
    constant_weight,
)
from onnxpress.recipe import Change, Facts, Need, Pass, PerChannel, Ranges
from onnxpress.values import drop_unused, is_op, name_of, opset

KEPT = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LeakyRelu")
SHAPES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
JOINS = ("Add", "Concat")


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """``Conv(x, W, b)`` → ``Conv(DQ(Q(x)), DQ(W_q), DQ(b_q))``, the same for Gemm and MatMul.

    W_q is int8 per output channel in ``weight_bits`` bits, b_q int32 with scale s_x·s_w;
    ``scales=mse`` seeks the s_w with the least squared error of W_q. ``reduce_range`` is for CPUs
    that add two products in 16 bits: s_w is then the least at which none saturate, which is finer
    than a bit less for all. ``activations`` is ``uint8`` (asymmetric; fast on both engines),
    ``int8`` (symmetric; partly float in ONNX Runtime on x86), ``uint16`` or ``int16`` (finer, but
    both engines multiply in float then; opset 21). Nodes named in ``exclude`` stay float and read
    float. Scheme of Jacob et al. 2018, arXiv:1712.05877.

    Between convolutions Add, Concat, pooling and LeakyRelu stay in int8 too, and everything reads
    a convolution's quantised result, float operators and the caller too, since ONNX Runtime has no
    other int8 kernel for it. A Concat of such a result with a float one before a layer joins
    integers. Adds elsewhere (the residual stream of a transformer has outliers)
    and products of two activations stay float.

    ``correct_bias`` adds ``(W - W_q)·E[x]`` to b: what rounded weights take from an output on the
    average, after Nagel et al. 2019, arXiv:1906.04721; E[x] per channel is that of samples, padded
    tokens among them. A Conv or Gemm without b gets one; the b of a MatMul is the constant of an
    Add behind it, and one without such an Add stays as it is.
    """

    rtol = None
    activations: str = "uint8"
    weight_bits: int = 8
    scales: str = "minmax"
    calibrator: str = "minmax"
    exclude: tuple[str, ...] = ()
    correct_bias: bool = False
    reduce_range: bool = False

    def __post_init__(self) -> None:
        check_activations("activations", self.activations)
        check_bits("weight_bits", self.weight_bits)
        check_scales("scales", self.scales)

    def needs(self) -> tuple[Need, ...]:
        return (self._ranges(), PerChannel()) if self.correct_bias else (self._ranges(),)

    def _ranges(self) -> Ranges:
        return Ranges(self.calibrator, self.activations)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < PER_CHANNEL_OPSET:
            return Change(0, (f"per-channel weights need opset {PER_CHANNEL_OPSET}",))
        if self.activations.endswith("16") and opset(model.ir) < SIXTEEN_BIT_OPSET:
            return Change(0, (f"{self.activations} activations need opset {SIXTEEN_BIT_OPSET}",))
        graph = model.ir.graph
        placed = Placed(
            model.ir,
            facts.ranges.get(self._ranges(), {}),
            facts.moments if self.correct_bias else {},
            activations=self.activations,
            bits=self.weight_bits,
            scales=self.scales,
            reduce_range=self.reduce_range,
            exclude=self.exclude,
        )
        integer: dict[ir.Value, None] = {}
        for node in list(graph):
            if name_of(node) in self.exclude:
                continue
            weight = constant_weight(node)
            if weight is not None and node.op_type != "ConvTranspose":
                if placed.linear(node, weight) and node.op_type == "Conv":
                    integer[node.outputs[0]] = None
            elif is_op(node, *CUTS, *KEPT, *SHAPES, *JOINS) and _stays_integer(
                node, integer, placed
            ):
                integer[node.outputs[0]] = None
        for value in integer:
            placed.close(value)
        drop_unused(graph.initializers.values())
        return Change(placed.rewrites, tuple(placed.refusals))


def _stays_integer(node: ir.Node, integer: dict[ir.Value, None], placed: Placed) -> bool:
    """Keep ``node`` in int8 where all that it reads comes from convolutions.

    A Concat before an integer layer also where some of it does: what is float is quantised earlier.
    """
    read = [value for value in node.inputs if value is not None]
    data = read if node.op_type in JOINS else read[:1]
    if node.op_type in JOINS and len(read) < 2:
        return False
    known = [value in integer for value in data]
    joins = is_op(node, "Concat") and any(known) and _feeds_layer(node, placed)
    if not (all(known) or joins):
        return False
    return node.op_type in SHAPES or placed.cuts(node) or placed.inputs(node, data)


def _feeds_layer(node: ir.Node, placed: Placed) -> bool:
    return any(placed.takes(user) for user, index in node.outputs[0].uses() if index == 0)
