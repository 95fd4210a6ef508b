"""The bounds of the usual batch instead of those of the most extreme one."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpress.calibrator import Calibrator, Range
from onnxpress.observed import Observed


@dataclass(frozen=True)
class MovingAverage(Calibrator):
    """range(x) = [mean of min x, mean of max x] of the batches, each of the same weight.

    It depends on how many samples a batch holds.
    """

    def range(self, seen: Observed, dtype: str) -> Range:
        return Range(seen.batch_low / seen.batches, seen.batch_high / seen.batches)
