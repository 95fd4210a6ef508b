"""What was seen of one tensor: in memory that grows neither with its size nor with the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

MASK = 1e30
"""Larger magnitudes stand for infinity (masks of attention): nothing weighs them against others."""


@dataclass(frozen=True)
class Points:
    """Values that stand for all that were seen: float64 ``values``, ascending, and their counts.

    Each occurs: no count is 0.
    """

    values: np.ndarray
    counts: np.ndarray

    @cached_property
    def widths(self) -> np.ndarray:
        """How far apart the values around each lie, halved: float64, above 0."""
        apart: np.ndarray = np.abs(np.gradient(self.values)).clip(np.finfo(np.float32).tiny)
        return apart

    def quantile(self, share: float) -> float:
        """The value that ``share`` (0 to 1) of all are at most as large as."""
        below = np.cumsum(self.counts)
        index = int(np.searchsorted(below, share * below[-1]))
        return float(self.values[min(index, len(self.values) - 1)])


class Histogram:
    """Counts of float32 values by sign, exponent and 7 bits of the mantissa: 128 bins per octave.

    No range need be known beforehand, so one pass is enough. A bin is 0.8 % wide whatever the
    values' magnitude is; a few thousand bins of 65,536 ever hold something.
    """

    def __init__(self) -> None:
        self._keys: np.ndarray = np.zeros(0, np.uint16)
        self._counts: np.ndarray = np.zeros(0)

    def add(self, values: np.ndarray, weight: float = 1.0) -> None:
        """Count finite ``values``, each as ``weight`` of them."""
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
        found = np.bincount(bits >> np.uint32(16), minlength=1 << 16)
        self._counts += found[self._keys] * weight
        found[self._keys] = 0
        new = np.flatnonzero(found > 0)  # of booleans it takes a quarter of the time
        self._keys = np.concatenate([self._keys, new.astype(np.uint16)])
        self._counts = np.concatenate([self._counts, found[new] * weight])

    def points(self) -> Points:
        """The middle of each bin that holds something."""
        middles = (self._keys.astype(np.uint32) << np.uint32(16)) | np.uint32(0x8000)
        values = middles.view(np.float32).astype(np.float64)
        values[np.abs(values) < np.finfo(np.float32).tiny] = 0
        order = np.argsort(values, kind="stable")
        return Points(values[order], self._counts[order])


@dataclass
class Observed:
    """One tensor over all batches; NaN and infinity are ignored.

    ``low`` and ``high`` are exact, ``batch_low`` and ``batch_high`` the bounds of each batch added
    up, the histogram is of a sample of the values. All is empty until something finite was seen.
    """

    low: float = np.inf
    high: float = -np.inf
    batches: int = 0
    batch_low: float = 0.0
    batch_high: float = 0.0
    histogram: Histogram = field(default_factory=Histogram)

    @property
    def empty(self) -> bool:
        return not self.batches

    def see(self, array: np.ndarray) -> None:
        """One batch: floats of any shape. Keeps no reference to it."""
        flat = np.asarray(array, np.float32).reshape(-1)
        if flat.size:
            self.add(float(flat.min()), float(flat.max()), flat, flat.size)

    def add(self, low: float, high: float, sample: np.ndarray, size: int) -> None:
        """One batch of ``size`` values, by its bounds and a ``sample`` of it."""
        sample = sample.reshape(-1)
        finite = np.isfinite(sample)
        kept = sample if finite.all() else sample[finite]
        if not (np.isfinite(low) and np.isfinite(high)):
            if not kept.size:
                return
            low, high = float(kept.min()), float(kept.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.batches += 1
        self.batch_low += low
        self.batch_high += high
        if kept.size:
            self.histogram.add(kept, size / sample.size)

    def points(self) -> Points:
        """The histogram's, within the bounds, and the bounds themselves."""
        seen = self.histogram.points()
        inside = (seen.values > self.low) & (seen.values < self.high)
        values = np.concatenate([[self.low], seen.values[inside], [self.high]])
        counts = np.concatenate([[1.0], seen.counts[inside], [1.0]])
        return Points(values, counts)


class Channels:
    """The rows of a matrix over all batches: bounds of each column, and a random sample of rows.

    Keeps at most ``most`` rows (reservoir sampling: each row seen is as likely to be kept), chosen
    by ``seed``.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self._most, self._rng, self._seen = most, np.random.default_rng(seed), 0
        self._rows: list[np.ndarray] = []
        self.low = self.high = np.zeros(0, np.float32)

    @property
    def rows(self) -> np.ndarray:
        """float32 (at most ``most``, columns)."""
        return np.stack(self._rows) if self._rows else np.zeros((0, len(self.low)), np.float32)

    def add(self, low: np.ndarray, high: np.ndarray, rows: np.ndarray) -> None:
        """One batch: bounds per column, and some of its rows; what is not finite is left out."""
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return
        if self._seen:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
        self.low, self.high = low, high
        for row in rows:
            self._seen += 1
            if len(self._rows) < self._most:
                self._rows.append(row.copy())
                continue
            place = int(self._rng.integers(self._seen))
            if place < self._most:
                self._rows[place] = row.copy()


class Moments:
    """Each channel of one tensor over all batches: float64 arrays, one number per channel.

    ``low`` and ``high`` are its bounds, ``mean`` and ``square`` the means of its values and of
    their squares, over all of ``count`` values. Batches that are not finite are left out.
    """

    def __init__(self) -> None:
        self.count = 0
        self.low = self.high = self.mean = self.square = np.zeros(0)

    def add(
        self, low: np.ndarray, high: np.ndarray, mean: np.ndarray, square: np.ndarray, count: int
    ) -> None:
        """One batch of ``count`` values per channel."""
        batch = [np.asarray(part, np.float64) for part in (low, high, mean, square)]
        if not count or not all(np.isfinite(part).all() for part in batch):
            return
        low, high, mean, square = batch
        if self.count:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
            share = count / (self.count + count)
            mean = self.mean + (mean - self.mean) * share
            square = self.square + (square - self.square) * share
        self.low, self.high, self.mean, self.square = low, high, mean, square
        self.count += count
