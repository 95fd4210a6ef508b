"""Why one operator stays in float32, whatever stands around it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnxpress.dims import divide, product
from onnxpress.passes._half_slots import Half, Operators
from onnxpress.passes._half_values import Numbers
from onnxpress.shapes import Shapes
from onnxpress.values import STANDARD, constant, constant_tensor, is_op, name_of, subgraphs

INTEGER = "engines know int8 beside float32"
LISTED: Mapping[str, str] = {
    **dict.fromkeys(("CumProd", "CumSum", "ReduceProd"), "rounding errors add up along an axis"),
    **dict.fromkeys(("AffineGrid", "GridSample", "RoiAlign"), "coordinates need more digits"),
    **dict.fromkeys(("DFT", "STFT"), "sums along a signal"),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), "a loss"),
    **dict.fromkeys(("Det", "Mod", "ReduceLogSum", "ReduceLogSumExp"), "small errors become large"),
    "QuantizeLinear": INTEGER,
}
AMPLIFYING = ("Cos", "Cosh", "Exp", "Sin", "Sinh", "Tan")
"""f(x·(1 + ε)) ≈ f(x)·(1 + x·ε), or as wrong in absolute numbers."""
AMPLIFICATION = 4.0
"""The most that a rounding error may grow by."""
DENOMINATORS = {"Div": 1, "Log": 0, "Reciprocal": 0}
"""Operator → the input that must not become 0."""
SUMS = {
    "AveragePool": 1, "GlobalAveragePool": 1, "GlobalLpPool": 2, "InstanceNormalization": 2,
    "LpNormalization": 2, "MeanVarianceNormalization": 2, "ReduceL1": 1, "ReduceL2": 2,
    "ReduceMean": 1, "ReduceSum": 1, "ReduceSumSquare": 2,
}  # fmt: skip
"""Operator → the power of the numbers that it adds up, which may overflow where the result fits.

Products (MatMul, Conv) and LayerNormalization add up in float32 on every engine.
"""
MARGIN = 2.0
"""The samples are not all there is: what was seen must fit so many times."""


class Reasons:
    """Of one model: ``why(node)``."""

    def __init__(
        self,
        operators: Operators,
        numbers: Numbers,
        shapes: Shapes,
        half: Half,
        exclude: Collection[str],
    ) -> None:
        self._operators, self._numbers, self._shapes = operators, numbers, shapes
        self._half, self._exclude = half, exclude

    def why(self, node: ir.Node) -> str:
        """Empty where nothing speaks against half precision."""
        if name_of(node) in self._exclude:
            return "excluded"
        return self._of_operator(node) or self._of_values(node) or self._of_numbers(node)

    def _of_operator(self, node: ir.Node) -> str:
        listed = LISTED.get(node.op_type) if node.domain in STANDARD else None
        if any(True for _ in subgraphs(node)):
            return "what goes into its graphs and out of them keeps its type"
        if any(map(self._operators.is_untyped, (*node.inputs, *node.outputs))):
            return "the type of a value is unknown"
        if is_op(node, "DequantizeLinear", "QuantizeLinear"):
            listed = INTEGER if not self._operators.slots(node).inputs else listed
        elif not self._operators.slots(node).inputs:
            return f"{node.op_type} has no {self._half} form"
        if listed is None and any(map(_is_dequantised, (*node.inputs, node.outputs[0]))):
            listed = INTEGER
        if node.attributes.get_string("reduction", "none") != "none":
            listed = LISTED["CumSum"]
        return f"{node.op_type}: {listed}" if listed else ""

    def _of_values(self, node: ir.Node) -> str:
        slots = self._operators.slots(node)
        inputs = [(index, node.inputs[index]) for index in slots.inputs]
        outputs = [(-1, node.outputs[index]) for index in slots.outputs]
        for index, value in (*inputs, *outputs):
            span = None if value is None else self._numbers.span(value)
            if value is None or span is None or self._numbers.is_mask(value):
                continue
            fixed = constant_tensor(value) is not None
            if fixed and is_op(node, "Clip") and index > 0 and span.most > self._half.largest:
                continue  # no bound
            if span.most > self._half.largest / (1.0 if fixed else MARGIN):
                return f"{value.name} reaches ±{span.most:.4g}"
            if 0 < span.most < self._half.least:
                return f"{value.name} is at most ±{span.most:.4g}"
        return ""

    def _of_numbers(self, node: ir.Node) -> str:
        if is_op(node, *AMPLIFYING, "Pow"):
            return self._amplified(node)
        if not self._half.overflows:
            return ""
        if is_op(node, *DENOMINATORS):
            divisor = node.inputs[DENOMINATORS[node.op_type]]
            if divisor is not None and not self._is_off_zero(divisor):
                return f"{divisor.name} may become 0"
        if is_op(node, *SUMS):
            count, value = self._count(node), node.inputs[0]
            span = None if value is None else self._numbers.span(value)
            if count is None or span is None:
                return f"{node.op_type}: how much it adds up is not known"
            if count * span.most ** SUMS[node.op_type] > self._half.largest:
                return f"{node.op_type}: adds up {count} numbers of up to ±{span.most:.4g}"
        return ""

    def _amplified(self, node: ir.Node) -> str:
        source = node.inputs[node.op_type == "Pow"]
        span = None if source is None else self._numbers.span(source)
        if is_op(node, "Pow"):
            fine = constant_tensor(source) is not None and span is not None and span.low > 0
        else:
            fine = span is not None
        if fine and span is not None and span.most <= AMPLIFICATION:
            return ""
        return f"{node.op_type}: small errors become large"

    def _is_off_zero(self, value: ir.Value) -> bool:
        array = constant(value)
        if array is not None:
            return bool((np.abs(array) >= self._half.least).all())
        span = self._numbers.span(value)
        return span is not None and max(span.low, -span.high) >= self._half.least

    def _count(self, node: ir.Node) -> int | None:
        """How many numbers come into one; None where that depends on a free dimension."""
        if is_op(node, "AveragePool"):
            return int(np.prod(node.attributes["kernel_shape"].as_ints()))
        shapes = [self._shapes.shape(value) for value in (node.inputs[0], node.outputs[0])]
        if shapes[0] is None or shapes[1] is None:
            return None
        kept = shapes[0][:1] if "Normalization" in node.op_type else shapes[1]
        count = divide(product(shapes[0]), product(kept))
        return count if isinstance(count, int) else None


def _is_dequantised(value: ir.Value | None) -> bool:
    """Whether it is an activation that was quantised."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "DequantizeLinear"):
        return False
    return constant_tensor(node.inputs[0]) is None
