"""float16 wherever the numbers that were seen fit, float32 where they do not."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.model import Model
from onnxpress.passes._half import narrow
from onnxpress.passes._half_slots import FLOAT16
from onnxpress.recipe import Change, Facts, Need, Pass, Ranges

RANGES = Ranges("minmax")


@dataclass(frozen=True)
class ToFloat16(Pass):
    """``Op(x, W)`` → ``Cast(Op₁₆(Cast(x), W₁₆))``, with Casts at the borders of float16 alone.

    In float32 stay operators without a float16 form in ONNX's schemas, those of which an input,
    output or constant reaches half of 65504 on the samples, or is nowhere above 2⁻¹⁴ (epsilons),
    sums that may overflow before they are divided, what multiplies rounding errors (Exp of more
    than 4, Pow of more than the 4th, divisors near 0), what is computed from integers alone
    (positions, angles, masks) or becomes one above 2048, coordinates, losses, quantised parts,
    and what would stand between two Casts without a product or a weight. In a mask that only ends
    in a softmax, numbers below -65504 become -16384. Inputs and outputs keep their type unless
    ``keep_io=False``; ``exclude`` names nodes that stay. Inside branches and loop bodies, where
    no ranges are seen, values are taken to fit. ONNX Runtime's CPU provider has float16 for
    little but moving data and computes in float32 between Casts of its own: the file is half as
    large there, not faster.
    """

    rtol = None
    keep_io: bool = True
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_signature", self.keep_io)

    def needs(self) -> tuple[Need, ...]:
        return (RANGES,)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        ranges = facts.ranges.get(RANGES, {})
        if not ranges:
            return Change(0, ("no ranges were observed",))
        return narrow(model.ir, FLOAT16, ranges, self.exclude, self.keep_io)
