"""Least squared error: what is cut off against what is rounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpress.calibrator import Calibrator, Range
from onnxpress.calibrators._clipping import clipped, level_of
from onnxpress.observed import Observed, Points


@dataclass(frozen=True)
class Mse(Calibrator):
    """Least E[(x - DQ(Q(x)))²] of the ranges within what was seen that are tried.

    Both bounds are scaled together by 64 factors from 0.05 to 1, then the best is refined, each
    bound by itself where the grid is asymmetric, down to half a per cent.
    """

    def range(self, seen: Observed, dtype: str) -> Range:
        return clipped(seen, dtype, _error)


def _error(points: Points, tried: Range, dtype: str) -> float:
    _, meant = level_of(points.values, tried, dtype)
    return float(np.dot(points.counts, (points.values - meant) ** 2))
