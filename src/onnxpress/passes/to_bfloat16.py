"""bfloat16: float32's range in half the bytes, with two to three digits."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.model import Model
from onnxpress.passes._half import narrow
from onnxpress.passes._half_slots import BFLOAT16
from onnxpress.recipe import Change, Facts, Pass


@dataclass(frozen=True)
class ToBfloat16(Pass):
    """``Op(x, W)`` → ``Cast(Op₁₆(Cast(x), W₁₆))``, with Casts at the borders of bfloat16 alone.

    As ``to_float16``, but nothing overflows or vanishes, so no samples are needed; Exp, Pow and
    their like stay in float32, and so does all that becomes an integer. MatMul and arithmetic take
    bfloat16 from opset 13 on, convolutions and pooling from 22 (``upgrade_opset``). The file runs
    in OpenVINO and on GPUs; **ONNX Runtime's CPU provider refuses it**: it has no bfloat16 kernel
    for MatMul, Add and nearly all else (1.31).
    """

    rtol = None
    keep_io: bool = True
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_signature", self.keep_io)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        return narrow(model.ir, BFLOAT16, {}, self.exclude, self.keep_io)
