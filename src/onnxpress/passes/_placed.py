"""Pairs of QuantizeLinear and DequantizeLinear as they come into a graph: one per activation."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.observed import Moments
from onnxpress.passes._linear import Linear, added
from onnxpress.quantization import (
    Grid,
    QuantizedWeight,
    activation_grid,
    add_constant,
    channel_axis,
    constant_weight,
    dequantized,
    is_depthwise,
    linear_refusal,
    quantize_weight,
    unsaturated_scale,
)
from onnxpress.values import Names, constant, is_op, name_of

CUTS = ("Relu", "Clip")
"""What engines leave out where the int8 grid of the result ends at the same bounds."""
BIAS_LIMIT = 2.0**30


class Placed:
    """The pairs that were placed so far: one for each activation, shared by all its readers."""

    def __init__(
        self,
        model: ir.Model,
        ranges: Mapping[str, Range],
        moments: Mapping[str, Moments],
        *,
        activations: str,
        bits: int,
        scales: str,
        reduce_range: bool,
        exclude: Collection[str],
    ) -> None:
        self._graph, self._names = model.graph, Names(model)
        self._ranges, self._moments = ranges, moments
        self._activations, self._exclude = activations, exclude
        self._bits, self._scales, self._reduce_range = bits, scales, reduce_range
        self._pairs: dict[ir.Value, tuple[ir.Value, Grid]] = {}
        self._weights: dict[tuple[str, int], tuple[ir.Value, QuantizedWeight]] = {}
        self._cut: set[ir.Node] = set()
        self.rewrites = 0
        self.refusals: list[str] = []

    def linear(self, node: ir.Node, weight: np.ndarray) -> bool:
        """Quantise input, weight and bias of a Conv, Gemm or MatMul."""
        source, old = node.inputs[0], node.inputs[1]
        assert source is not None
        assert old is not None
        producer = source.producer()
        if producer is not None and is_op(producer, "DequantizeLinear"):
            return False
        reason = linear_refusal(node, weight)
        pair = None if reason else self._pair(source)
        if pair is None:
            reason = reason or f"no range was observed for its input {source.name}"
            self.refusals.append(f"{name_of(node)}: {reason}")
            return False
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        axis = channel_axis(node, weight)
        bias_array = _constant_bias(bias, weight.shape[axis])
        value, small = self._weight(old, weight, axis, bias_array, pair[1], node)
        error = self._error(node, source, weight, small)
        node.replace_input_with(0, pair[0])
        node.replace_input_with(1, value)
        if error is not None and is_op(node, "MatMul"):
            self._add(node, error)
        elif error is not None and (bias is None or bias_array is not None):
            bias_array = error if bias_array is None else bias_array + error
        if bias_array is not None:
            stem = f"{old.name}_bias" if bias is None else str(bias.name)
            node.resize_inputs(3)
            scale = small.scale * pair[1].scale
            node.replace_input_with(2, self._bias(stem, bias_array, scale, node))
        self.rewrites += 1
        return True

    def takes(self, node: ir.Node) -> bool:
        """Whether ``node`` is one that ``linear`` will find integers for."""
        weight = constant_weight(node)
        if weight is None or is_op(node, "ConvTranspose") or name_of(node) in self._exclude:
            return False
        source = node.inputs[0]
        return source is not None and not linear_refusal(node, weight) and bool(self._grid(source))

    def cuts(self, node: ir.Node) -> bool:
        """Whether ``node`` is a Relu or Clip that the int8 grid of its result makes needless."""
        grid = self._grid(node.outputs[0])
        if not is_op(node, *CUTS) or grid is None:
            return False
        least, most = (0.0, math.inf) if node.op_type == "Relu" else _clip_bounds(node)
        low, high = grid.bounds
        if not (least <= low and high <= most):
            return False
        self._cut.add(node)
        return True

    def inputs(self, node: ir.Node, values: list[ir.Value]) -> bool:
        """Quantise the activations ``values`` that ``node`` reads; all or none."""
        pairs = [self._pair(value) for value in values]
        if any(pair is None for pair in pairs):
            return False
        for index, value in enumerate(node.inputs):
            if value is not None and value in values:
                node.replace_input_with(index, self._pairs[value][0])
        self.rewrites += 1
        return True

    def close(self, value: ir.Value) -> None:
        """Let all read the quantised result of a convolution, or of what was fused into one."""
        producer, uses = value.producer(), list(value.uses())
        if producer is None or not is_op(producer, "Conv", *CUTS):
            return
        if len(uses) == 1 and uses[0][0] in self._cut and not value.is_graph_output():
            return
        pair = self._pair(value)
        if pair is None:
            return
        output, names = pair[0], self._names
        for user, index in uses:
            ours = user is output.producer().inputs[0].producer()  # type: ignore[union-attr]  # our pair
            if not ours and name_of(user) not in self._exclude:
                user.replace_input_with(index, output)
        places = [i for i, item in enumerate(self._graph.outputs) if item is value]
        if places:
            name, value.name = value.name, names.fresh(f"{value.name}_float")
            output.name, output.type, output.shape = name, value.type, value.shape
        for index in places:
            self._graph.outputs[index] = output

    def _pair(self, value: ir.Value) -> tuple[ir.Value, Grid] | None:
        """``DequantizeLinear(QuantizeLinear(value))`` right behind ``value``'s producer."""
        if value not in self._pairs:
            grid = self._grid(value)
            if grid is None:
                return None
            scale = self._constant(f"{value.name}_scale", grid.scale)
            zero = self._constant(f"{value.name}_zero", grid.zero_point)
            quantize = ir.node("QuantizeLinear", [value, scale, zero])
            quantize.outputs[0].name = self._names.fresh(f"{value.name}_quantized")
            dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero])
            output, producer = dequantize.outputs[0], value.producer()
            output.name = self._names.fresh(f"{value.name}_dequantized")
            output.dtype, output.shape = ir.DataType.FLOAT, value.shape
            if producer is None:
                self._graph[0].prepend([quantize, dequantize])
            else:
                producer.append([quantize, dequantize])
            self._pairs[value] = output, grid
        return self._pairs[value]

    def _grid(self, value: ir.Value) -> Grid | None:
        observed: Range | None = self._ranges.get(value.name or "")
        if observed is None or value.dtype not in (ir.DataType.FLOAT, None):
            return None
        return activation_grid(observed, self._activations)

    def _weight(
        self,
        old: ir.Value,
        weight: np.ndarray,
        axis: int,
        bias: np.ndarray | None,
        grid: Grid,
        node: ir.Node,
    ) -> tuple[ir.Value, QuantizedWeight]:
        """The dequantised weight, with scales so wide that neither bias nor products overflow."""
        least = np.zeros(weight.shape[axis], np.float32)
        if bias is not None:
            least = (np.abs(bias) / (grid.scale * BIAS_LIMIT)).astype(np.float32)
        if self._reduce_range and not is_depthwise(node, weight):
            least = np.maximum(least, unsaturated_scale(weight, axis))
        key = (old.name or "", axis)
        if key not in self._weights or (self._weights[key][1].scale < least).any():
            small = quantize_weight(weight, axis, self._bits, least, self._scales)
            value = dequantized(self._graph, self._names, old, small, node)
            self._weights[key] = value, small
        return self._weights[key]

    def _error(
        self, node: ir.Node, source: ir.Value, weight: np.ndarray, small: QuantizedWeight
    ) -> np.ndarray | None:
        """By how much the rounded weights lessen each output, for the mean of what they read."""
        seen = self._moments.get(source.name or "")
        linear = Linear.of(node)
        if seen is None or isinstance(linear, str):
            return None
        if len(seen.mean) != linear.inputs:
            return None
        return replace(linear, weight=weight - small.nearest).moved(seen.mean)

    def _add(self, node: ir.Node, error: np.ndarray) -> None:
        """Add ``error`` to the constant that an Add behind ``node`` adds, if there is one."""
        found = added(node, len(error))
        if found is None or name_of(found[0]) in self._exclude:
            return
        user, index = found
        old = user.inputs[index]
        bias = constant(old)
        assert old is not None
        assert bias is not None
        corrected = (bias + error).astype(np.float32)
        user.replace_input_with(index, self._constant(f"{old.name}_corrected", corrected))

    def _bias(self, old: str, bias: np.ndarray, scale: np.ndarray, node: ir.Node) -> ir.Value:
        limit = 2**31 - 1
        values = np.clip(np.round(bias.astype(np.float64) / scale), -limit, limit)
        dequantize = ir.node(
            "DequantizeLinear",
            [
                self._constant(f"{old}_int32", values.astype(np.int32)),
                self._constant(f"{old}_scale", scale.astype(np.float32)),
            ],
            {"axis": 0},
        )
        output = dequantize.outputs[0]
        output.name = self._names.fresh(f"{old}_dequantized")
        output.dtype, output.shape = ir.DataType.FLOAT, ir.Shape(bias.shape)
        node.prepend([dequantize])
        return output

    def _constant(self, stem: str, array: np.ndarray) -> ir.Value:
        return add_constant(self._graph, self._names, stem, array)


def _clip_bounds(node: ir.Node) -> tuple[float, float]:
    """NaN, which compares with nothing, for a bound that is computed."""
    bounds = [-math.inf, math.inf]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            known = constant(value)
            bounds[index] = math.nan if known is None else float(known.reshape(-1)[0])
    return bounds[0], bounds[1]


def _constant_bias(bias: ir.Value | None, channels: int) -> np.ndarray | None:
    array = constant(bias)
    if array is None or array.shape not in ((channels,), (1, channels)):
        return None
    return array.reshape(-1) if np.isfinite(array).all() else None
