"""How close a candidate's output stays to the origin's, summed up batch by batch.

Memory depends on the size of one output, never on the number of samples.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.intervals import jackknife_lower, wilson_lower

MIN_SAMPLES = 8
"""With fewer samples the spread between them says too little, and the lower end is -1."""

NOISE = 1e-12
"""A variance below this share of the squared values is rounding: 1e-6 of their size."""

CONCORDANCE = "concordance correlation with the origin's output"
CLOSENESS = "closeness of a constant output"
AGREEMENT = "share of equal elements"

MOST_GROUPS = 20
GROUP_BYTES = 1 << 28
SCALARS = 5


@dataclass(frozen=True)
class Similarity:
    """``value`` is 1 for the origin itself; ``low`` ends its 95 % interval over ``n`` samples.

    ``varies`` tells whether the origin's output differs between samples at all; ``metric`` says
    what was compared.
    """

    value: float
    low: float
    n: int
    varies: bool
    metric: str


class Comparison(abc.ABC):
    """Takes in one output, batch after batch."""

    @abc.abstractmethod
    def add(self, candidate: np.ndarray, reference: np.ndarray) -> None:
        """One batch with the samples along axis 0; the shapes may differ, which counts as wrong."""

    @abc.abstractmethod
    def result(self) -> Similarity:
        """Over all that was added: at least one sample."""


class Concordance(Comparison):
    """Lin's concordance correlation, pooled over the elements of an output.

    ``2 Σ⟨a-m, r-m⟩ / (Σ|a-m|² + Σ|r-m|²)`` over candidate rows ``a`` and origin rows ``r``, whose
    mean over the samples is ``m``. It is 1 for equal rows alone: a constant candidate has 0,
    however alike the origin's outputs are, and one that is wrong by a factor or an offset has less
    than its correlation. It is summed up from ``d = a - r`` and ``r`` less its first row, so that
    nothing cancels, in groups of samples for a jackknife. Where the candidate is NaN or infinite
    and the origin is not, or their shapes differ, it is 0; elements where the origin is not finite
    do not count. An output that the origin keeps constant cannot be correlated: there it is
    ``1 - sqrt(Σ|d|² / Σ|r|²)``, at least 0. Lin (1989), "A concordance correlation coefficient to
    evaluate reproducibility", Biometrics 45.
    """

    def __init__(self, name: str) -> None:
        """``name`` is the output's, for errors."""
        self._name = name
        self._broken = False
        self._n = 0
        self._shape: tuple[int, ...] = ()
        self._first = np.empty(0)
        self._sums = np.empty((0, 0))
        self._random = np.random.default_rng(0)

    def add(self, candidate: np.ndarray, reference: np.ndarray) -> None:
        """Raises ``SamplesError`` where the origin's rows differ in shape between samples."""
        if not len(reference):
            return
        r = reference.reshape(len(reference), -1).astype(np.float64)
        finite = np.isfinite(r)
        r[~finite] = 0
        if not self._n:
            self._start(r[0], reference.shape[1:])
        if reference.shape[1:] != self._shape:
            raise SamplesError(
                f"output '{self._name}' has shape {list(self._shape)} for one sample and "
                f"{list(reference.shape[1:])} for another",
                "samples that give one shape",
                "make the samples one size, or name what the model does with --task",
            )
        groups = self._groups_of_next(len(r))
        if candidate.shape != reference.shape:
            self._broken = True
            return
        a = candidate.reshape(len(r), -1).astype(np.float64)
        self._broken |= not np.isfinite(a[finite]).all()
        if not self._broken:
            d = np.where(finite, a - r, 0)
            self._accumulate(groups, d, r)

    def result(self) -> Similarity:
        total = self._sums.sum(axis=0)
        varies = self._broken or _spread(total) > NOISE * float(total[4])
        if self._broken:
            return Similarity(0.0, 0.0, self._n, varies, CONCORDANCE)
        statistic = _concordance if varies else _closeness
        value, low = statistic(total), -1.0
        if self._n >= MIN_SAMPLES:
            used = self._sums[: self._n]
            low = min(max(jackknife_lower(used, statistic), -1.0), value)
        return Similarity(value, low, self._n, varies, CONCORDANCE if varies else CLOSENESS)

    def _start(self, first: np.ndarray, shape: tuple[int, ...]) -> None:
        self._first, self._shape = first, shape
        room = GROUP_BYTES // (16 * max(first.size, 1))
        groups = min(max(room, MIN_SAMPLES), MOST_GROUPS)
        self._sums = np.zeros((groups, SCALARS + 2 * first.size))

    def _groups_of_next(self, count: int) -> np.ndarray:
        """One sample into each group, then at random: samples often come sorted by class."""
        groups = len(self._sums)
        index = np.arange(self._n, self._n + count)
        drawn = np.array([self._random.integers(groups) for _ in index])
        self._n += count
        return np.where(index < groups, index, drawn)

    def _accumulate(self, groups: np.ndarray, d: np.ndarray, r: np.ndarray) -> None:
        """Add ``n, Σ|d|², Σ⟨d,s⟩, Σ|s|², Σ|r|², Σd, Σs`` to each group, with ``s = r - first``."""
        s = r - self._first
        size = self._first.size
        for row, group in enumerate(groups):
            sums = self._sums[group]
            dot = (d[row] @ d[row], d[row] @ s[row], s[row] @ s[row], r[row] @ r[row])
            sums[:SCALARS] += (1, *dot)
            sums[SCALARS : SCALARS + size] += d[row]
            sums[SCALARS + size :] += s[row]


def _spread(sums: np.ndarray) -> float:
    """``Σ|r-m|²``."""
    shifted = sums[SCALARS + (len(sums) - SCALARS) // 2 :]
    return float(sums[3] - shifted @ shifted / sums[0])


def _concordance(sums: np.ndarray) -> float:
    """``(1 + x) / (1 + x + y/2)`` with ``x = Σ⟨d, r-m⟩ / Σ|r-m|²``, ``y = Σ|d|² / Σ|r-m|²``."""
    spread = _spread(sums)
    if spread <= NOISE * sums[4]:
        return 0.0
    difference, shifted = np.split(sums[SCALARS:], 2)
    x = float(sums[2] - difference @ shifted / sums[0]) / spread
    both = 1 + x + float(sums[1]) / spread / 2  # at least 1/2, as y is at least x²
    return min((1 + x) / both, 1.0)


def _closeness(sums: np.ndarray) -> float:
    if sums[4] == 0:
        return float(sums[1] == 0)
    return max(1 - math.sqrt(sums[1] / sums[4]), 0.0)


class Agreement(Comparison):
    """The share of equal elements: for integers, booleans and strings.

    The interval counts samples, not elements, since the elements of one sample hang together.
    """

    def __init__(self) -> None:
        self._n = 0
        self._agreed = 0.0
        self._first: np.ndarray | None = None
        self._varies = False

    def add(self, candidate: np.ndarray, reference: np.ndarray) -> None:
        rows = len(reference)
        if not rows:
            return
        if self._first is None:
            self._first = np.array(reference[0])
        self._varies = self._varies or not all(
            np.array_equal(self._first, row) for row in reference
        )
        self._n += rows
        if candidate.shape == reference.shape:
            equal = (candidate == reference).reshape(rows, -1)
            self._agreed += float(equal.mean(axis=1).sum()) if equal.size else rows

    def result(self) -> Similarity:
        low = wilson_lower(self._agreed, self._n)
        return Similarity(self._agreed / self._n, low, self._n, self._varies, AGREEMENT)


def average_ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])
