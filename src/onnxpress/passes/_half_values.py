"""What is known of the numbers of float32 values: of constants all, of activations their range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.passes._half_slots import Half
from onnxpress.shapes import Shapes
from onnxpress.values import constant_tensor, is_op

MOVERS = (
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
    "Transpose", "Trilu", "Unsqueeze", "Where",
)  # fmt: skip
"""Operators whose results are numbers that they were given."""
SOFTMAX_INPUTS = {
    ("", "Softmax"): 0, ("", "Attention"): 3, ("com.microsoft", "Attention"): 5,
    ("com.microsoft", "MultiHeadAttention"): 5,
}  # fmt: skip
"""Where a mask ends: the input that goes into a softmax, or is added to what does."""
MASKED, SCORES = -(2.0**14), 2.0**12
"""What stands for minus infinity in a mask that is added to scores of at most ±``SCORES``.

exp of the difference is 0 in float32 already; three masks and the scores add up within float16.
"""


@dataclass(frozen=True)
class Span:
    """The smallest and the largest finite number of a value."""

    low: float
    high: float

    @property
    def most(self) -> float:
        return max(-self.low, self.high)


class Numbers:
    """Of the values of one model. ``ranges`` are what was seen of its activations."""

    def __init__(
        self, nodes: Iterable[ir.Node], shapes: Shapes, ranges: Mapping[str, Range], half: Half
    ) -> None:
        self._shapes, self._ranges, self._half = shapes, ranges, half
        self._spans: dict[ir.Value, Span | None] = {}
        self.counted, self._deep = self._follow(nodes)

    def span(self, value: ir.Value) -> Span | None:
        """None where nothing is known, and of what has no finite number."""
        if value not in self._spans:
            tensor = constant_tensor(value)
            seen = self._ranges.get(value.name or "")
            if tensor is not None:
                self._spans[value] = _span(tensor)
            else:
                self._spans[value] = Span(seen.low, seen.high) if seen is not None else None
        return self._spans[value]

    def is_mask(self, value: ir.Value) -> bool:
        """Whether its most negative numbers mean minus infinity, for each of its readers."""
        return self._is_low(value) and self._ends_in_softmax(value, set())

    def is_weight(self, value: ir.Value | None) -> bool:
        """Whether it is a constant of at least two dimensions."""
        tensor = constant_tensor(value)
        return tensor is not None and sum(size > 1 for size in tensor.shape.numpy()) > 1

    def _is_low(self, value: ir.Value) -> bool:
        span = self.span(value)
        low = value in self._deep or (span is not None and span.low < -self._half.largest)
        return low and (span is None or span.high <= SCORES)

    def _ends_in_softmax(self, value: ir.Value, seen: set[ir.Value]) -> bool:
        if value in seen:
            return True
        seen.add(value)
        if value.is_graph_output() or not value.uses():
            return False
        for node, index in value.uses():
            shown = any(output.name for output in node.outputs[3:])  # the scores themselves
            ends = SOFTMAX_INPUTS.get((node.domain, node.op_type)) == index and not shown
            if ends or is_op(node, "Shape"):
                continue
            others = [other for i, other in enumerate(node.inputs) if i != index and other]
            if is_op(node, "Add"):
                passes = all(map(self._is_score, others))
            elif is_op(node, "Max"):
                passes = all(constant_tensor(other) and self._is_low(other) for other in others)
            else:
                passes = is_op(node, *MOVERS)
            if not passes or not all(self._ends_in_softmax(out, seen) for out in node.outputs):
                return False
        return True

    def _is_score(self, value: ir.Value) -> bool:
        span = self.span(value)
        known = span is not None or not self._half.overflows
        return (known and (span is None or span.most <= SCORES)) or self._is_low(value)

    def _follow(self, nodes: Iterable[ir.Node]) -> tuple[set[ir.Value], set[ir.Value]]:
        """What is counted: computed from integers and a few numbers alone; what may be low of it.

        Positions, angles and masks need more digits than a half has, and are small.
        """
        counted: set[ir.Value] = set()
        deep: set[ir.Value] = set()
        for node in nodes:
            floats = [v for v in node.inputs if v and self._shapes.dtype(v) == ir.DataType.FLOAT]
            constants = [value for value in floats if constant_tensor(value) is not None]
            others = [value for value in floats if constant_tensor(value) is None]
            if any(v not in counted for v in others) or any(map(self.is_weight, constants)):
                continue
            if is_op(node, "Constant", "DequantizeLinear") or any(
                attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
                for attribute in node.attributes.values()
            ):
                continue
            counted.update(node.outputs)
            lows = [span.low for span in map(self.span, constants) if span is not None]
            if any(low < -self._half.largest for low in lows) or any(v in deep for v in others):
                deep.update(node.outputs)
        return counted, deep


def _span(tensor: ir.TensorProtocol) -> Span | None:
    """Reads the numbers once, and copies them only where some are not finite."""
    array = tensor.numpy()
    if not array.size:
        return Span(0.0, 0.0)
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = array[np.isfinite(array)]
        if not finite.size:
            return None
        low, high = float(finite.min()), float(finite.max())
    return Span(low, high)
