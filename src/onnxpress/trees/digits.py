"""Whether float32 has the digits that a forest of float64 thresholds needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from onnxpress.errors import SourceError
from onnxpress.trees.forest import LARGEST, Forest, nearest

NEARER = 0.999
"""Of a float32 step: LightGBM's thresholds are off by a float64 step, which is no collision."""
BINS = 256
"""A range of fewer float32 steps is coarser than the histograms that these models train on."""


def require_float32(forest: Forest, columns: Sequence[str] = (), owner: str = "the model") -> None:
    """``columns`` are the names of the forest's features, where they are known.

    Raises ``SourceError`` for a feature whose float64 numbers are not told apart by float32: rows
    would take wrong branches, and a reference that is asked about float32 rows would never tell.
    """
    for feature, reason in coarse(forest):
        known = feature < len(columns)
        name = f"column '{columns[feature]}'" if known else f"feature {feature} of {owner}"
        raise SourceError(
            f"{name} has numbers that float32 cannot tell apart ({reason})",
            "numbers of at most 7 digits",
            "subtract an offset from it, or round it, and train again",
        )


def coarse(forest: Forest) -> Iterator[tuple[int, str]]:
    """The features, each with its reason. Of a forest that compares in float32 none."""
    found: dict[int, set[float]] = {}
    for _, _, split in forest.splits():
        exact = (test.exact for test in split.tests if test.exact is not None)
        found.setdefault(split.feature, set()).update(t for t in exact if abs(t) <= LARGEST)
    for feature, thresholds in sorted(found.items()):
        close = _close(sorted(thresholds))
        low, high = forest.ranges.get(feature, (0.0, 0.0))
        if close is not None:
            yield feature, f"its thresholds {close[0]!r} and {close[1]!r}"
        elif thresholds and _narrow(low, high):
            yield feature, f"{low!r} to {high!r} in training"


def _close(ascending: list[float]) -> tuple[float, float] | None:
    """Two neighbours less than a float32 step apart, at the size of the smaller."""
    for low, high in itertools.pairwise(ascending):
        if high - low < NEARER * _step(low, high) or nearest(low) == nearest(high):
            return low, high
    return None


def _narrow(low: float, high: float) -> bool:
    """Whether a range holds few float32 numbers, and its ends say that there were others.

    Float32 numbers and the means of two neighbours, which is what some models keep, are multiples
    of half a step.
    """
    if not low < high or max(abs(low), abs(high)) > LARGEST:
        return False
    step = _step(low, high)
    if high - low >= BINS * step:
        return False
    return bool(np.fmod(low, step / 2) or np.fmod(high, step / 2))


def _step(one: float, other: float) -> float:
    return float(np.spacing(np.float32(min(abs(one), abs(other)))))
