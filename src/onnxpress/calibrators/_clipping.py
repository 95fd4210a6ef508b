"""Where to cut off a tensor's values so that a loss is least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxpress.calibrator import Range
from onnxpress.observed import MASK, Observed, Points
from onnxpress.quantization import activation_grid

LEAST, COARSE, FINE = 0.05, 64, 9
"""The narrowest range of all that is tried, as a share of what was seen; how many are tried."""


def clipped(seen: Observed, dtype: str, loss: Callable[[Points, Range, str], float]) -> Range:
    """The range within what was seen of which ``loss`` is least.

    Both bounds are scaled together first; then each alone, and more finely, where the grid is
    asymmetric. Ranges that hold masks or one value are left as they are.
    """
    whole = Range(seen.low, seen.high)
    if max(-seen.low, seen.high) > MASK or seen.low == seen.high:
        return whole
    points = seen.points()
    known: dict[Range, float] = {}

    def cost(tried: Range) -> float:
        if tried not in known:
            known[tried] = loss(points, tried, dtype)
        return known[tried]

    shares = np.geomspace(LEAST, 1, COARSE)
    best = min((_within(_scaled(whole, s, s), whole) for s in reversed(shares)), key=cost)
    step = float(shares[1] / shares[0])
    symmetric = not dtype.startswith("u")
    while step > 1.005:
        factors = np.geomspace(1 / step, step, FINE)
        for sides in ((True, True),) if symmetric else ((False, True), (True, False)):
            tried = [
                _within(_scaled(best, f if sides[0] else 1, f if sides[1] else 1), whole)
                for f in factors
            ]
            best = min([best, *tried], key=cost)
        step **= 2 / (FINE - 1)
    return best


def level_of(values: np.ndarray, tried: Range, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The integer that stands for each value on the grid of ``tried``, and the value it means."""
    grid = activation_grid(tried, dtype)
    scale, zero = float(grid.scale), float(grid.zero_point)
    limits = np.iinfo(grid.zero_point.dtype)
    levels = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
    return levels, (levels - zero) * scale


def _scaled(span: Range, low: float, high: float) -> Range:
    return Range(float(span.low * low), float(span.high * high))


def _within(span: Range, whole: Range) -> Range:
    return Range(max(span.low, whole.low), min(span.high, whole.high))
