"""Whether embeddings order pairs of samples as the origin's do."""

from __future__ import annotations

import math

import numpy as np

from onnxpress.intervals import left_out_lower
from onnxpress.similarity import MIN_SAMPLES, average_ranks
from onnxpress.task import Quality

MOST = 512
"""Samples that count: they make 130,816 pairs, and more would take memory for no digit."""

GROUPS = 20
METRIC = "Spearman correlation of pairwise cosine similarities"


class Pairs:
    """Embeddings of a candidate and of the origin, the first ``MOST`` rows of them."""

    def __init__(self) -> None:
        self.n = 0
        self._candidate: list[np.ndarray] = []
        self._reference: list[np.ndarray] = []

    def add(self, candidate: np.ndarray | None, reference: np.ndarray) -> None:
        """One batch; rows of another shape, or none, count as not a number."""
        room = MOST - self.n
        reference = np.asarray(reference, np.float64)[: max(room, 0)]
        mine = np.full_like(reference, np.nan)
        if candidate is not None and candidate.shape[1:] == reference.shape[1:]:
            given = np.asarray(candidate, np.float64)[: len(reference)]
            mine = given if len(given) == len(reference) else mine
        self._candidate.append(mine)
        self._reference.append(reference)
        self.n += len(reference)

    def quality(self) -> Quality:
        """The lower end is that of a jackknife over groups of samples, -1 for fewer than 8.

        A candidate with a value that is not finite has 0.
        """
        mine = np.concatenate(self._candidate)
        theirs = np.concatenate(self._reference)
        wanted = _cosines(theirs)
        upper = np.triu_indices(self.n, 1)
        if np.ptp(wanted[upper]) < 1e-9:
            metric = f"{METRIC}, which proves nothing: the origin's are all alike"
            return Quality(float(np.isfinite(mine).all()), -1.0, self.n, metric)
        if not np.isfinite(mine).all():
            return Quality(0.0, 0.0, self.n, METRIC)
        found = _cosines(mine)
        value = _spearman(found[upper], wanted[upper])
        if self.n < MIN_SAMPLES:
            return Quality(value, -1.0, self.n, METRIC)
        groups = np.arange(self.n) % min(GROUPS, self.n)
        left_out = []
        for group in range(groups.max() + 1):
            kept = np.flatnonzero(groups != group)
            pairs = np.triu_indices(len(kept), 1)
            left_out.append(
                _spearman(found[np.ix_(kept, kept)][pairs], wanted[np.ix_(kept, kept)][pairs])
            )
        return Quality(value, max(-1.0, left_out_lower(value, left_out)), self.n, METRIC)


def _cosines(rows: np.ndarray) -> np.ndarray:
    """All pairwise ones; a row of zeros has 0 with every other."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(unit @ unit.T)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of ranks; 0 where one side is constant but for rounding."""
    if np.array_equal(a, b):
        return 1.0
    if np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
        return 0.0
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(a), average_ranks(b)))
    return float(min(1.0, x @ y / math.sqrt(float(x @ x) * float(y @ y))))
