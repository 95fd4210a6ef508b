"""int8 products that a CPU without dot-product instructions saturates, or does slowly.

Without VNNI, x86 multiplies uint8 by int8 with ``VPMADDUBSW``, which adds two products in 16 bits
and saturates (ONNX Runtime, "Quantize ONNX Models"). Two products of 255 by weights whose sum is
128 still fit. int8 activations are uint8 to it, with 128 added.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxpress.finding import ANYWHERE, X86, Check, Finding, Target, file_of
from onnxpress.machine import INT8_DOT
from onnxpress.model import Model
from onnxpress.quantization import is_depthwise, pair_sums
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op, name_of

OPERANDS: Mapping[str, tuple[int, int]] = {
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "QAttention": (0, 1),
    "QGemm": (0, 3),
}
"""Operator of ONNX or ONNX Runtime → which inputs are the activation and the weight."""
FLOAT = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""What is int8 where its inputs come from DequantizeLinear."""
WITHOUT_OVERFLOW = 128
"""The largest sum of two weights whose products by 255 fit into 16 bits."""


class Int8Risks(Check):
    """Reads the types of int8 products' inputs and compares the weights with what saturates."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        if target.isa is None or set(INT8_DOT) & set(target.isa):
            return []
        types, told, products = Shapes(model.ir), [], 0
        for node in model.nodes():
            pair = _operands(node, types)
            if pair is None:
                continue
            products += 1
            if target.architecture == X86 and _saturates(node, pair[1], types):
                what = "int8 products saturate without VNNI: results are wrong where both are large"
                fix = "quantise the float model again on such a machine, or with 7 bits: onnxpress "
                fix += "quantize FLOAT.onnx --scheme static --bits 7 --samples SAMPLES -o int8.onnx"
                told.append(
                    Finding("int8_risks", "warning", name_of(node), node.op_type, what, fix)
                )
        if products:
            many = "1 int8 product" if products == 1 else f"{products} int8 products"
            what = f"{many}, but no int8 dot product in {_told(target.isa)}: "
            what += "int8 may be slower than float32 there"
            fix = f"on that machine: onnxpress bench FLOAT.onnx {file_of(model)} --samples SAMPLES"
            told.append(Finding("int8_risks", "warning", file_of(model), "", what, fix))
        return told


def _operands(node: ir.Node, types: Shapes) -> tuple[ir.Value, ir.Value] | None:
    """The 8-bit activation and weight of an int8 product."""
    if node.op_type in OPERANDS:
        inputs = [node.inputs[index] for index in OPERANDS[node.op_type]]
    elif is_op(node, *FLOAT):
        inputs = [_quantised(value) for value in node.inputs[:2]]
    else:
        return None
    activation, weight = inputs
    eight = (ir.DataType.INT8, ir.DataType.UINT8)
    if activation is None or weight is None:
        return None
    known = types.dtype(activation) in eight and types.dtype(weight) in eight
    return (activation, weight) if known else None


def _quantised(value: ir.Value | None) -> ir.Value | None:
    """What ``DequantizeLinear`` made ``value`` of, through a transposition or none."""
    node = value.producer() if value is not None else None
    if node is not None and is_op(node, "Transpose"):
        return _quantised(node.inputs[0])
    return node.inputs[0] if node is not None and is_op(node, "DequantizeLinear") else None


def _saturates(node: ir.Node, weight: ir.Value, types: Shapes) -> bool:
    """Whether two neighbours of an int8 ``weight`` do; one that is computed may."""
    if types.dtype(weight) != ir.DataType.INT8:
        return False
    numbers = constant(weight)
    if numbers is None or numbers.ndim < 2 or not numbers.size:
        return True
    if "Conv" in node.op_type:
        axis = 1 if is_op(node, "ConvTranspose") else 0
    else:
        axis = 0 if _is_turned(node) else numbers.ndim - 1
    if is_depthwise(node, numbers):
        return False
    return bool(pair_sums(numbers.astype(np.int16), axis).max() > WITHOUT_OVERFLOW)


def _is_turned(node: ir.Node) -> bool:
    """Whether the weight of a product of matrices has its outputs first."""
    value, turned = node.inputs[1], node.attributes.get_int("transB", 0) != 0
    while value is not None and (made := value.producer()) is not None:
        turned ^= is_op(made, "Transpose")
        value = made.inputs[0]
    return turned


def _told(isa: tuple[str, ...]) -> str:
    return ", ".join(isa) or "the CPU's instruction sets"
