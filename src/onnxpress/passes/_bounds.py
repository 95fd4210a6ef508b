"""``min(max(x, low), high)``, as Relu, Clip, Min and Max write it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.values import constant, is_op


@dataclass(frozen=True)
class Bounds:
    """``low`` ≤ ``high`` of what ``data`` is held within."""

    low: float = -math.inf
    high: float = math.inf
    data: ir.Value | None = None

    def then(self, later: Bounds) -> Bounds:
        """Both, one after the other; ``data`` is of the first."""
        low = min(max(self.low, later.low), later.high)
        high = min(max(self.high, later.low), later.high)
        return Bounds(low, high, self.data)

    @property
    def is_relu(self) -> bool:
        return self.low == 0 and self.high == math.inf


def bounds_of(node: ir.Node) -> Bounds | None:
    """None where ``node`` does something else, or its numbers are not known."""
    if is_op(node, "Relu"):
        return Bounds(0.0, math.inf, node.inputs[0])
    if is_op(node, "Clip"):
        low = _number(node, 1, -math.inf)
        high = _number(node, 2, math.inf)
        ordered = low is not None and high is not None and low <= high
        return Bounds(low, high, node.inputs[0]) if ordered else None  # type: ignore[arg-type]  # told
    if is_op(node, "Max", "Min") and len(node.inputs) == 2:
        for side in (1, 0):
            number = _number(node, side, math.nan)
            if number is None or math.isnan(number) or constant(node.inputs[1 - side]) is not None:
                continue
            data = node.inputs[1 - side]
            if is_op(node, "Max"):
                return Bounds(number, math.inf, data)
            return Bounds(-math.inf, number, data)
    return None


def _number(node: ir.Node, index: int, default: float) -> float | None:
    """The input as a number, ``default`` where there is none; None where it is not known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return default
    array = constant(value)
    if array is None or array.size != 1 or array.dtype.kind not in "fV":
        return None
    number = float(array.reshape(-1)[0])
    return None if math.isnan(number) else number
