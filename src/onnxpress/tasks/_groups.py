"""Sums of per-sample counts in a few groups: a statistic with its interval in constant memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxpress.intervals import jackknife_lower
from onnxpress.similarity import MIN_SAMPLES, MOST_GROUPS

Statistic = Callable[[np.ndarray], float]
"""A figure of the sums over samples, float64 (width,)."""


class Groups:
    """Each sample adds ``width`` numbers to one of 20 groups."""

    def __init__(self, width: int) -> None:
        self.n = 0
        self._sums = np.zeros((MOST_GROUPS, width))
        self._random = np.random.default_rng(0)

    def add(self, row: np.ndarray) -> None:
        """One sample: into each group one, then at random, as samples often come sorted."""
        drawn = int(self._random.integers(MOST_GROUPS))
        self._sums[self.n if self.n < MOST_GROUPS else drawn] += row
        self.n += 1

    def total(self) -> np.ndarray:
        """float64 (width,)."""
        return np.asarray(self._sums.sum(axis=0))

    def lower(self, statistic: Statistic) -> float:
        """The lower end of the 95 % interval; -1 for fewer than 8 samples, which say too little."""
        if self.n < MIN_SAMPLES:
            return -1.0
        value = statistic(self.total())
        return min(max(jackknife_lower(self._sums[: self.n], statistic), -1.0), value)
