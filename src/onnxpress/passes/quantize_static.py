"""int8 arithmetic between calibrated activations, written as QuantizeLinear/DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    Grid,
    activation_grid,
    add_constant,
    channel_axis,
    check_bits,
    constant_weight,
    dequantized,
    quantize_weight,
)
from onnxpress.recipe import Change, Facts, Need, Pass, Ranges
from onnxpress.values import drop_unused, opset

ACTIVATIONS = {"Relu", "Clip", "LeakyRelu"}
"""What engines compute inside the convolution before it; no pair goes between the two."""

POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
SHAPES = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
JOINS = {"Add", "Concat"}
BIAS_LIMIT = 2.0**30


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """``Conv(x, W, b)`` → ``Conv(DQ(Q(x)), DQ(W_q), DQ(b_q))``, the same for Gemm and MatMul.

    W_q is int8 per output channel in ``weight_bits`` bits (7 where the CPU saturates), b_q int32
    with scale s_x·s_w. ``activations`` is ``uint8`` (asymmetric; fast on both engines) or
    ``int8`` (symmetric). Between convolutions Add, Concat and pooling stay in int8 too, and a
    convolution's result is quantised even where only float operators read it, since ONNX Runtime
    has no other int8 kernel for it. Adds elsewhere (the residual stream of a transformer has
    outliers) and products of two activations stay float. Scheme of Jacob et al. 2018,
    arXiv:1712.05877.
    """

    rtol = None
    activations: str = "uint8"
    weight_bits: int = 8
    calibrator: str = "minmax"

    def __post_init__(self) -> None:
        if self.activations not in ("uint8", "int8"):
            raise InputError(f"activations={self.activations}", "uint8 or int8")
        check_bits("weight_bits", self.weight_bits)

    def needs(self) -> tuple[Need, ...]:
        return (Ranges(self.calibrator),)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph = model.ir.graph
        if opset(model.ir) < PER_CHANNEL_OPSET:
            return Change(0, (f"per-channel weights need opset {PER_CHANNEL_OPSET}",))
        placed = _Placed(graph, facts, self.activations, self.weight_bits)
        integer: set[ir.Value] = set()
        for node in list(graph):
            weight = constant_weight(node)
            if weight is not None and node.op_type != "ConvTranspose":
                done = placed.linear(node, weight)
                if done and node.op_type == "Conv":
                    integer.update(node.outputs)
            elif node.op_type in ACTIVATIONS | POOLS | SHAPES | JOINS:
                _follow(node, integer, placed)
        placed.close_convolutions(integer)
        drop_unused(graph.initializers.values())
        return Change(placed.rewrites, tuple(placed.refusals))


def _follow(node: ir.Node, integer: set[ir.Value], placed: _Placed) -> None:
    """Keep pooling, joins and shapes of convolutions' results in int8."""
    read = [_float_source(value) for value in node.inputs if value is not None]
    activations = [value for value in read if not value.is_initializer()]
    data = activations if node.op_type in JOINS else activations[:1]
    joined = node.op_type in JOINS and (len(data) < 2 or len(data) < len(read))
    if not data or joined or not all(value in integer for value in data):
        return
    if node.op_type in POOLS | JOINS and not placed.inputs(node, len(node.inputs)):
        return
    integer.add(node.outputs[0])


def _float_source(value: ir.Value) -> ir.Value:
    """The value in front of a QuantizeLinear/DequantizeLinear pair of ours, or itself."""
    producer = value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return value
    quantize = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    source = quantize.inputs[0] if quantize is not None else None
    return source if source is not None else value


class _Placed:
    """The pairs that were placed so far: one for each activation, shared by all its readers."""

    def __init__(self, graph: ir.Graph, facts: Facts, dtype: str, weight_bits: int) -> None:
        self._graph, self._ranges, self._dtype, self._bits = graph, facts.ranges, dtype, weight_bits
        self._pairs: dict[ir.Value, tuple[ir.Value, Grid]] = {}
        self._weights: dict[tuple[str, int], tuple[ir.Value, np.ndarray]] = {}
        self.rewrites = 0
        self.refusals: list[str] = []

    def linear(self, node: ir.Node, weight: np.ndarray) -> bool:
        """Quantise input, weight and bias of a Conv, Gemm or MatMul."""
        source, old = node.inputs[0], node.inputs[1]
        assert source is not None
        assert old is not None
        if node.op_type == "MatMul" and weight.ndim != 2:
            self.refusals.append(f"{node.name}: its weight has {weight.ndim} dimensions")
            return False
        if node.op_type == "Gemm" and _odd_gemm(node):
            self.refusals.append(f"{node.name}: transA, alpha or beta is set")
            return False
        if source.producer() is not None and source.producer().op_type == "DequantizeLinear":  # type: ignore[union-attr]
            return False
        pair = self._pair(source, node)
        if pair is None:
            self.refusals.append(f"{node.name}: no range was observed for its input {source.name}")
            return False
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        axis = channel_axis(node, weight)
        channels = weight.shape[axis]
        bias_array = _constant_bias(bias, channels)
        value, scale = self._weight(old, weight, axis, bias_array, pair[1], node)
        node.replace_input_with(0, pair[0])
        node.replace_input_with(1, value)
        if bias is not None and bias_array is not None:
            node.replace_input_with(2, self._bias(bias, bias_array, scale * pair[1].scale, node))
        self.rewrites += 1
        return True

    def inputs(self, node: ir.Node, count: int) -> bool:
        """Quantise the first ``count`` activations that ``node`` reads; all or none."""
        values = [v for v in node.inputs[:count] if v is not None and not v.is_initializer()]
        pairs = [self._pair(value, node) for value in values]
        if any(pair is None for pair in pairs):
            return False
        for index, value in enumerate(node.inputs):
            if value in self._pairs and value in values:
                node.replace_input_with(index, self._pairs[value][0])
        self.rewrites += 1
        return True

    def close_convolutions(self, integer: set[ir.Value]) -> None:
        """Quantise results of convolutions that only float operators (or the caller) read."""
        for value in list(integer):
            producer = value.producer()
            if producer is None or value in self._pairs or producer.op_type in SHAPES:
                continue
            readers = [user for user, _ in value.uses()]
            fused = len(readers) == 1 and readers[0].op_type in ACTIVATIONS
            if fused and not value.is_graph_output():
                continue
            if producer.op_type in {"Conv"} | ACTIVATIONS:
                self._close(value, producer)

    def _close(self, value: ir.Value, producer: ir.Node) -> None:
        uses = list(value.uses())
        grid = self._grid(value)
        if grid is None:
            return
        output = _pair_nodes(self._graph, value, grid, after=producer)
        for user, index in uses:
            user.replace_input_with(index, output)
        for index, graph_output in enumerate(self._graph.outputs):
            if graph_output is value:
                name, value.name = value.name, f"{value.name}_float"
                output.name, output.type, output.shape = name, value.type, value.shape
                self._graph.outputs[index] = output
        self._pairs[value] = (output, grid)

    def _pair(self, value: ir.Value, before: ir.Node) -> tuple[ir.Value, Grid] | None:
        if value not in self._pairs:
            grid = self._grid(value)
            if grid is None:
                return None
            producer = value.producer()
            output = _pair_nodes(self._graph, value, grid, after=producer, before=before)
            self._pairs[value] = (output, grid)
        return self._pairs[value]

    def _grid(self, value: ir.Value) -> Grid | None:
        observed: Range | None = self._ranges.get(value.name or "")
        if observed is None or value.dtype not in (ir.DataType.FLOAT, None):
            return None
        return activation_grid(observed, self._dtype)

    def _weight(
        self,
        old: ir.Value,
        weight: np.ndarray,
        axis: int,
        bias: np.ndarray | None,
        grid: Grid,
        node: ir.Node,
    ) -> tuple[ir.Value, np.ndarray]:
        """The dequantised weight and its scales, so wide that the int32 bias cannot overflow."""
        key = (old.name or "", axis)
        if key not in self._weights:
            least = None if bias is None else np.abs(bias) / (grid.scale * BIAS_LIMIT)
            small = quantize_weight(weight, axis, self._bits, least)
            self._weights[key] = dequantized(self._graph, old, small, node), small.scale
        value, scale = self._weights[key]
        producer = value.producer()
        assert producer is not None
        return value, scale

    def _bias(self, old: ir.Value, bias: np.ndarray, scale: np.ndarray, node: ir.Node) -> ir.Value:
        limit = 2**31 - 1
        values = np.clip(np.round(bias.astype(np.float64) / scale), -limit, limit)
        dequantize = ir.node(
            "DequantizeLinear",
            [
                add_constant(self._graph, f"{old.name}_int32", values.astype(np.int32)),
                add_constant(self._graph, f"{old.name}_scale", scale.astype(np.float32)),
            ],
            {"axis": 0},
        )
        node.prepend([dequantize])
        output = dequantize.outputs[0]
        output.dtype, output.shape = ir.DataType.FLOAT, old.shape
        return output


def _pair_nodes(
    graph: ir.Graph,
    value: ir.Value,
    grid: Grid,
    after: ir.Node | None,
    before: ir.Node | None = None,
) -> ir.Value:
    """``DequantizeLinear(QuantizeLinear(value))`` right behind ``value``'s producer."""
    scale = add_constant(graph, f"{value.name}_scale", grid.scale)
    zero = add_constant(graph, f"{value.name}_zero", grid.zero_point)
    quantize = ir.node("QuantizeLinear", [value, scale, zero])
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero])
    if after is not None:
        after.append([quantize, dequantize])
    elif len(graph) > 0:
        graph[0].prepend([quantize, dequantize])
    output = dequantize.outputs[0]
    output.dtype, output.shape = ir.DataType.FLOAT, value.shape
    assert before is None or before.graph is graph
    return output


def _odd_gemm(node: ir.Node) -> bool:
    attributes = node.attributes
    scaled = attributes.get_float("alpha", 1.0) != 1.0 or attributes.get_float("beta", 1.0) != 1.0
    return bool(attributes.get_int("transA", 0)) or scaled


def _constant_bias(bias: ir.Value | None, channels: int) -> np.ndarray | None:
    if bias is None or not bias.is_initializer() or bias.is_graph_input():
        return None
    tensor = bias.const_value
    array = None if tensor is None else tensor.numpy()
    return array if array is not None and array.shape == (channels,) else None
