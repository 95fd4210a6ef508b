"""Scales of quantised weights that lose least, in the sum of squares.

The largest value of a group asks for one scale; a smaller one clips that value and rounds all the
others less. Which is better is tried.
"""

from __future__ import annotations

import numpy as np

FRACTIONS = np.linspace(1.15, 0.2, 20, dtype=np.float32)
"""Of the given scale; above 1 since with few bits another one may happen to meet the values.

The least is for 2 bits and thousands of values, of which the largest is far from most.
"""
CHUNK = 1 << 17
"""Elements whose error is sought at once, so few that they stay in a core's cache."""


def fitted(
    rows: np.ndarray, scale: np.ndarray, low: np.ndarray | int, high: np.ndarray | int
) -> np.ndarray:
    """Of each row the scale with the least squared error, sought around ``scale``.

    ``rows`` [n, m] and ``scale`` [n], not 0, are float32; values are rounded to the integers from
    ``low`` to ``high``, numbers or arrays [n]. The error is never above that of ``scale`` itself.
    """
    best = scale.astype(np.float32)
    lows, highs = (np.broadcast_to(np.asarray(bound), scale.shape) for bound in (low, high))
    step = max(1, CHUNK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        best[part] = _Search(rows[part], lows[part], highs[part]).best(best[part])
    return best


class _Search:
    """Of a few rows."""

    def __init__(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self._rows = rows.astype(np.float32, copy=False)
        self._low, self._high = (bound[:, None].astype(np.float32) for bound in (low, high))

    def best(self, scale: np.ndarray) -> np.ndarray:
        """Every fraction of ``scale``, then what suits the integers of the best of them."""
        found, least = scale, self._error(scale)
        for fraction in FRACTIONS:
            found, least = self._better(found, least, scale * fraction)
        integers = self._integers(found)
        squares = np.maximum(np.square(integers).sum(1), 1)
        exact = (self._rows * integers).sum(1) / squares
        usable = np.abs(exact) > np.finfo(np.float32).tiny
        return self._better(found, least, np.where(usable, exact, found))[0]

    def _better(
        self, found: np.ndarray, least: np.ndarray, tried: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        error = self._error(tried)
        return np.where(error < least, tried, found), np.minimum(error, least)

    def _integers(self, scale: np.ndarray) -> np.ndarray:
        rounded: np.ndarray = np.rint(self._rows / scale[:, None])
        np.clip(rounded, self._low, self._high, out=rounded)
        return rounded

    def _error(self, scale: np.ndarray) -> np.ndarray:
        missed = self._integers(scale)
        missed *= scale[:, None]
        missed -= self._rows
        error: np.ndarray = np.einsum("ij,ij->i", missed, missed)
        return error
