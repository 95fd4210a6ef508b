"""The smallest and largest value that was ever seen."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.calibrator import Calibrator, Range
from onnxpress.observed import Observed


@dataclass(frozen=True)
class MinMax(Calibrator):
    """range(x) = [min x, max x] over all batches: nothing that was seen is cut off."""

    def range(self, seen: Observed, dtype: str) -> Range:
        return Range(seen.low, seen.high)
