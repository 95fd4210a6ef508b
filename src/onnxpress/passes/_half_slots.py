"""The 16-bit floats, and which inputs and outputs of a node may have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxpress.passes._rewriting import CONTRIB
from onnxpress.shapes import Shapes
from onnxpress.values import STANDARD, is_op, opset, subgraphs

FLOAT = ir.DataType.FLOAT
WIDE_OUTPUTS = {"SkipLayerNormalization": (1, 2), "SkipSimplifiedLayerNormalization": (1, 2)}
"""Of ONNX Runtime's own operators, outputs that are float32 whatever the inputs are."""
FLOAT16_CONTRIB = ("Attention", "EmbedLayerNormalization", "FusedGemm")
CONTRIB_OPERATORS = (
    "BiasGelu", "FastGelu", "FusedMatMul", "Gelu", "MatMulNBits", "MultiHeadAttention",
    "QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization", *WIDE_OUTPUTS,
)  # fmt: skip
"""ONNX Runtime's own operators all of whose floats are of one type, which may be either half; of
those above, float16 alone. Its schemas are no part of onnx, hence the list."""
UNDECLARED = ("SimplifiedLayerNormalization",)
"""What is called as if it were ONNX's."""
OTHERWISE_TYPED = (
    "Bernoulli", "BitCast", "CastLike", "EyeLike", "LinearAttention", "MelWeightMatrix",
    "OptionalGetElement", "RandomNormalLike", "RandomUniformLike",
)  # fmt: skip
"""Operators of whose outputs the schema does not tell the type by those of the inputs."""


@dataclass(frozen=True)
class Half:
    """A 16-bit float: its largest and its smallest normal number; up to ``whole`` it has integers.

    Cast knows it from ``opset`` on.
    """

    dtype: ir.DataType
    largest: float
    least: float
    whole: int
    opset: int

    @property
    def overflows(self) -> bool:
        """Whether numbers of float32 get lost in it: bfloat16 has float32's exponents."""
        return self.dtype == ir.DataType.FLOAT16

    @property
    def text(self) -> str:
        """As ONNX's schemas spell it."""
        return f"tensor({self})"

    def __str__(self) -> str:
        return self.dtype.name.lower()


FLOAT16 = Half(ir.DataType.FLOAT16, 65504.0, 2.0**-14, 2**11, 7)
BFLOAT16 = Half(ir.DataType.BFLOAT16, (2 - 2.0**-7) * 2.0**127, 2.0**-126, 2**8, 13)


@dataclass(frozen=True)
class Slots:
    """The places of a node's float32 inputs and outputs that become half with it."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


class Operators:
    """What the operators of one model take."""

    def __init__(self, model: ir.Model, shapes: Shapes, half: Half) -> None:
        self._opset, self._shapes, self._half = opset(model), shapes, half
        self._functions = model.functions

    def is_float(self, value: ir.Value | None) -> bool:
        return value is not None and self._shapes.dtype(value) == FLOAT

    def is_untyped(self, value: ir.Value | None) -> bool:
        """Whether it may be float32, for all that is known."""
        if value is None or not value.name:
            return False
        return self._shapes.dtype(value) in (None, ir.DataType.UNDEFINED)

    def slots(self, node: ir.Node) -> Slots:
        """None of ``node`` where its operator takes no half, or is not known."""
        inputs = [i for i, value in enumerate(node.inputs) if self.is_float(value)]
        outputs = [i for i, value in enumerate(node.outputs) if self.is_float(value)]
        mine = node.op_identifier() in self._functions
        if mine or is_op(node, *OTHERWISE_TYPED) or any(True for _ in subgraphs(node)):
            return Slots()
        own = node.domain == CONTRIB or is_op(node, *UNDECLARED)
        if own and node.op_type in self._contrib():
            wide = WIDE_OUTPUTS.get(node.op_type, ())
            return Slots(tuple(inputs), tuple(i for i in outputs if i not in wide))
        if is_op(node, "Cast"):
            kept = node.attributes["to"].as_int() == FLOAT
            return Slots(tuple(inputs), tuple(outputs) if kept else ())
        try:
            known = node.domain in STANDARD
            schema = onnx.defs.get_schema(node.op_type, self._opset) if known else None
        except onnx.defs.SchemaError:
            schema = None
        if schema is None:
            return Slots()
        takes = {
            constraint.type_param_str
            for constraint in schema.type_constraints
            if {self._half.text, "tensor(float)"} <= set(constraint.allowed_type_strs)
        }
        taken = tuple(i for i in inputs if _kind(schema.inputs, i) in takes)
        followed = {_kind(schema.inputs, i) for i in taken}
        if is_op(node, "DequantizeLinear") and not node.attributes.get_int("output_dtype", 0):
            followed.add(_kind(schema.outputs, 0))  # the type of the scale
        return Slots(taken, tuple(i for i in outputs if _kind(schema.outputs, i) in followed))

    def _contrib(self) -> tuple[str, ...]:
        also = FLOAT16_CONTRIB if self._half == FLOAT16 else ()
        return (*CONTRIB_OPERATORS, *also)


def _kind(parameters: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    """The type of a parameter; the last one may stand for many."""
    return str(parameters[min(index, len(parameters) - 1)].type_str)
