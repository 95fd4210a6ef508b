"""R² of a candidate beside the origin's, summed up batch by batch."""

from __future__ import annotations

import numpy as np

from onnxpress.intervals import jackknife_lower
from onnxpress.similarity import MIN_SAMPLES
from onnxpress.task import Quality

GROUPS = 20


class Determination:
    """``R² = 1 - Σ(y-ŷ)² / Σ(y-mean y)²`` of both, in groups of samples for a jackknife.

    Labels are taken less the first one, so that nothing cancels.
    """

    def __init__(self) -> None:
        self.n = 0
        self._first = 0.0
        self._sums = np.zeros((GROUPS, 5))

    def add(self, candidate: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> None:
        """One batch, float64 (rows,) each; a candidate's NaN counts as infinitely wrong."""
        if not self.n and len(labels):
            self._first = float(labels[0])
        y = labels - self._first
        wrong = np.nan_to_num((labels - candidate) ** 2, nan=np.inf)
        rows = np.stack([np.ones_like(y), y, y**2, wrong, (labels - reference) ** 2], axis=1)
        np.add.at(self._sums, (self.n + np.arange(len(y))) % GROUPS, rows)
        self.n += len(y)

    def quality(self) -> Quality | None:
        """R² over the origin's R²; None where the origin's is not above 0."""
        total = self._sums.sum(axis=0)
        origin, candidate = _determined(total, 4), _determined(total, 3)
        if not origin > 0:
            return None
        metric, n = "R² / origin's R²", self.n
        if not np.isfinite(candidate):
            return Quality(0.0, 0.0, n, metric, origin, 0.0)
        value, low = candidate / origin, -1.0
        if n >= MIN_SAMPLES:
            low = min(max(jackknife_lower(self._sums[:n], _ratio), -1.0), value)
        return Quality(value, low, n, metric, origin, candidate)


def _determined(sums: np.ndarray, errors: int) -> float:
    spread = sums[2] - sums[1] ** 2 / sums[0] if sums[0] else 0.0
    return float(1 - sums[errors] / spread) if spread > 0 else -np.inf


def _ratio(sums: np.ndarray) -> float:
    origin = _determined(sums, 4)
    return _determined(sums, 3) / origin if origin > 0 else 0.0
