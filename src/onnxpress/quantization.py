"""Affine quantisation: q = clip(round(x / scale) + zero_point), x ≈ (q - zero_point) · scale.

The arithmetic of ONNX's QuantizeLinear and DequantizeLinear, and how quantised constants enter a
graph. Weights are symmetric (zero point 0), as every fast integer kernel wants them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.errors import InputError
from onnxpress.least_error import fitted
from onnxpress.values import Names, add_initializer

PER_CHANNEL_OPSET = 13
"""The first opset whose DequantizeLinear has an axis."""

ACTIVATIONS = ("uint8", "int8", "uint16", "int16")
"""The types of the integers that activations are quantised to."""
SIXTEEN_BIT_OPSET = 21
"""The first opset whose QuantizeLinear makes 16 bits."""

WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Operator → which input holds the weights."""

SCALES = ("minmax", "mse")
"""How the scale of a weight's values is chosen: by the largest one, or by the least error."""


@dataclass(frozen=True)
class Grid:
    """The integers that stand for a tensor's values: float32 ``scale``, ``zero_point``; scalars."""

    scale: np.ndarray
    zero_point: np.ndarray

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value on the grid, in the float32 that engines compute."""
        limits, zero = np.iinfo(self.zero_point.dtype), np.float32(self.zero_point)
        low, high = (self.scale * (np.float32(q) - zero) for q in (limits.min, limits.max))
        return float(low), float(high)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """``values`` after QuantizeLinear and DequantizeLinear, in their own type."""
        limits, zero = np.iinfo(self.zero_point.dtype), float(self.zero_point)
        levels = np.clip(np.rint(values / self.scale) + zero, limits.min, limits.max)
        return np.asarray((levels - zero) * self.scale, values.dtype)


def activation_grid(observed: Range, dtype: str) -> Grid:
    """The grid that covers ``observed`` and represents 0 exactly (padding and ReLU rely on it).

    Of ``ACTIVATIONS`` the unsigned ones are asymmetric, the signed ones symmetric with zero
    point 0.
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    most = np.iinfo(dtype).max
    if not dtype.startswith("u"):
        scale = np.float32(max(-low, high) / most) or np.float32(1)
        return Grid(np.array(scale), np.array(0, dtype))
    scale = np.float32((high - low) / most) or np.float32(1)
    zero_point = np.clip(np.round(-low / scale), 0, most)
    return Grid(np.array(scale), np.array(zero_point, dtype))


def check_activations(name: str, activations: str) -> None:
    """Raise ``InputError`` unless ``activations`` is one of ``ACTIVATIONS``."""
    if activations not in ACTIVATIONS:
        raise InputError(f"{name}={activations}", " or ".join(ACTIVATIONS))


def check_bits(name: str, bits: int) -> None:
    """Raise ``InputError`` unless ``bits`` is 2 to 8, what int8 can hold."""
    if not 2 <= bits <= 8:
        raise InputError(f"{name}={bits}", "2 to 8")


def check_scales(name: str, scales: str) -> None:
    """Raise ``InputError`` unless ``scales`` is one of ``SCALES``."""
    if scales not in SCALES:
        raise InputError(f"{name}={scales}", f"one of {', '.join(SCALES)}")


@dataclass(frozen=True)
class QuantizedWeight:
    """int8 values of the weight's shape and one float32 scale per channel along ``axis``."""

    values: np.ndarray
    scale: np.ndarray
    axis: int

    @property
    def nearest(self) -> np.ndarray:
        """What the integers stand for, float32."""
        along = [1] * self.values.ndim
        along[self.axis] = -1
        return np.asarray(self.values * self.scale.reshape(along), np.float32)


def quantize_weight(
    weight: np.ndarray,
    axis: int,
    bits: int = 8,
    least_scale: np.ndarray | None = None,
    scales: str = "minmax",
) -> QuantizedWeight:
    """Symmetric weights of ``bits`` bits per channel, each scale at least ``least_scale``.

    ``scales``: ``minmax`` keeps the largest value of a channel, ``mse`` the least squared error.
    """
    limit = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others).astype(np.float32) / np.float32(limit)
    used = scale > np.finfo(np.float32).tiny
    if scales == "mse":
        rows = np.moveaxis(weight, axis, 0).reshape(len(scale), -1)
        scale = np.where(used, fitted(rows, np.where(used, scale, 1), -limit, limit), scale)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale.astype(np.float32))
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1))
    along = [1] * weight.ndim
    along[axis] = -1
    values = np.clip(np.round(weight / scale.reshape(along)), -limit, limit).astype(np.int8)
    return QuantizedWeight(values, scale, axis)


def pair_sums(weight: np.ndarray, axis: int) -> np.ndarray:
    """The largest of ``|a|`` and ``|a + b|``, per channel along ``axis``; a and b are neighbours.

    x86 without a dot product for int8 adds two products in 16 bits: those of weights that lie side
    by side where the engine has laid them out. That is along the inputs, of convolutions by
    channels first or channels last; which of two neighbours are a pair depends on how the engine
    divides the inputs (OpenVINO halves 257 to 510 of them, into odd parts too).
    """
    rows = np.moveaxis(weight, axis, 0)
    most: np.ndarray = np.abs(rows).max(axis=tuple(range(1, rows.ndim)))
    for order in (rows, np.moveaxis(rows, 1, -1)):
        flat = order.reshape(len(rows), -1)
        if flat.shape[1] > 1:
            most = np.maximum(most, np.abs(flat[:, :-1] + flat[:, 1:]).max(axis=1))
    return most


def unsaturated_scale(weight: np.ndarray, axis: int) -> np.ndarray:
    """The least scale of int8 weights per channel at which no product saturates, float32.

    Two products of 255 by weights whose sum is at most 128 fit into 16 bits: 127 before rounding.
    """
    return pair_sums(weight.astype(np.float32) / np.float32(127), axis)


def is_depthwise(node: ir.Node, weight: np.ndarray) -> bool:
    """Whether each output of a Conv reads one input channel: its kernels add nothing in 16 bits."""
    groups = node.attributes.get_int("group", 1)
    return groups > 1 and groups == len(weight) and weight.shape[1] == 1


def channel_axis(node: ir.Node, weight: np.ndarray) -> int:
    """The axis of ``node``'s weight that holds its output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
    return 0 if transposed else weight.ndim - 1


def constant_weight(node: ir.Node) -> np.ndarray | None:
    """The float32 weight of a linear operator of the standard domain, if it is an initializer."""
    index = WEIGHT_INPUT.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    value = node.inputs[index] if index is not None and index < len(node.inputs) else None
    if value is None or value.is_graph_input() or not value.is_initializer():
        return None
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
        return None
    if tensor.size == 0:
        return None
    weight = tensor.numpy()
    return weight if np.isfinite(weight).all() else None


def linear_refusal(node: ir.Node, weight: np.ndarray) -> str:
    """Why ``node``, which multiplies by ``weight``, has no integer kernel; empty where it has."""
    if node.op_type == "MatMul" and weight.ndim != 2:
        return f"its weight has {weight.ndim} dimensions"
    return "transA, alpha or beta is set" if is_odd_gemm(node) else ""


def is_odd_gemm(node: ir.Node) -> bool:
    """Whether ``node`` is a Gemm that does more than ``x·W + b``."""
    if node.op_type != "Gemm":
        return False
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return factors != [1.0, 1.0] or node.attributes.get_int("transA", 0) != 0


def weight_counts(nodes: list[ir.Node]) -> Mapping[str, int]:
    """Operator → how many of ``nodes`` multiply by a constant weight."""
    counts: dict[str, int] = {}
    for node in nodes:
        if constant_weight(node) is not None:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def add_constant(graph: ir.Graph, names: Names, stem: str, array: np.ndarray) -> ir.Value:
    """``array`` as an initializer called ``stem``, or a name made from it where that is taken."""
    name = names.fresh(stem)
    return add_initializer(graph, name, ir.tensor(array, name=name))


def dequantized(
    graph: ir.Graph, names: Names, value: ir.Value, weight: QuantizedWeight, before: ir.Node
) -> ir.Value:
    """``DequantizeLinear`` of the int8 values, inserted before a node; stands for ``value``."""
    dequantize = ir.node(
        "DequantizeLinear",
        [
            add_constant(graph, names, f"{value.name}_int8", weight.values),
            add_constant(graph, names, f"{value.name}_scale", weight.scale),
            add_constant(graph, names, f"{value.name}_zero", np.zeros(weight.scale.shape, np.int8)),
        ],
        {"axis": weight.axis},
    )
    output = dequantize.outputs[0]
    output.name, output.dtype = names.fresh(f"{value.name}_dequantized"), ir.DataType.FLOAT
    output.shape = value.shape
    before.prepend([dequantize])
    return output
