"""Cuts off a fixed share of the values, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.calibrator import Calibrator, Range
from onnxpress.errors import InputError
from onnxpress.observed import MASK, Observed


@dataclass(frozen=True)
class Percentile(Calibrator):
    """The range that holds ``percentile`` per cent of all values; as many are cut at either end.

    Where no value is negative, all that is cut off is at the upper end.
    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise InputError(f"percentile={self.percentile}", "above 50 and at most 100")

    def range(self, seen: Observed, dtype: str) -> Range:
        if max(-seen.low, seen.high) > MASK:
            return Range(seen.low, seen.high)
        points, cut = seen.points(), 1 - self.percentile / 100
        if seen.low >= 0:
            return Range(seen.low, points.quantile(1 - cut))
        if seen.high <= 0:
            return Range(points.quantile(cut), seen.high)
        return Range(points.quantile(cut / 2), points.quantile(1 - cut / 2))
