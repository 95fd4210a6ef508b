"""What every library's trees have in common: splits of float32 features, leaves that add up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Mode = Literal["LEQ", "LT", "EQ"]
Link = Literal["identity", "exp", "sigmoid", "softmax", "mean", "square", "softplus"]
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Test:
    """One comparison of a feature with ``value``, which is a float32.

    Where it holds, the row goes left if ``left``; ``missing`` tells whether NaN passes it too.
    ``exact`` is the original's threshold, where that compares float64 numbers.
    """

    __test__ = False  # pytest takes every class of this name for a test

    mode: Mode
    value: float
    left: bool = True
    missing: bool = False
    exact: float | None = None

    def holds(self, value: float) -> bool:
        """Of a float32 ``value``."""
        if math.isnan(value):
            return self.missing
        if self.mode == "LEQ":
            return value <= self.value
        return value < self.value if self.mode == "LT" else value == self.value


@dataclass(frozen=True)
class Split:
    """The first test that holds decides; where none does, ``rest_left`` does.

    ``left`` and ``right`` are indices of nodes in the same tree.
    """

    feature: int
    tests: tuple[Test, ...]
    rest_left: bool
    left: int
    right: int

    def goes_left(self, value: float) -> bool:
        """Of a float32 ``value``."""
        for test in self.tests:
            if test.holds(value):
                return test.left
        return self.rest_left


@dataclass(frozen=True)
class Leaf:
    """Adds ``weights[i]`` to the raw score of target ``targets[i]``."""

    targets: tuple[int, ...]
    weights: tuple[float, ...]


Tree = Sequence[Split | Leaf]
"""Nodes, the root first."""


@dataclass(frozen=True)
class Forest:
    """``link(base + Σ leaves)``.

    ``base`` holds one number per raw score. With ``classes`` it is a classifier: one raw score
    for the second of two classes, or one per class. ``mean`` divides by ``divisor`` instead of
    a link's function. ``tie_to_second`` gives a raw score of exactly 0 to the second class.
    ``codes`` tells how a category is made of a number between two. ``missing`` is a value that is
    read as NaN. ``takes_missing`` tells whether NaN has a meaning.
    ``ranges`` are the lowest and the highest number of a feature in training, where it is known.
    """

    trees: tuple[Tree, ...]
    features: int
    base: tuple[float, ...]
    link: Link
    classes: tuple[int, ...] | tuple[str, ...] | None = None
    scale: float = 1.0
    divisor: float = 1.0
    tie_to_second: bool = False
    missing: float = math.nan
    takes_missing: bool = True
    codes: Literal["exact", "floor", "trunc"] = "exact"
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def splits(self) -> Iterator[tuple[int, int, Split]]:
        """Index of the tree, index of the node, and the split."""
        for number, tree in enumerate(self.trees):
            for index, node in enumerate(tree):
                if isinstance(node, Split):
                    yield number, index, node


def at_most(threshold: float, *, left: bool = True, missing: bool = False) -> Test:
    """``x <= threshold`` of a model that makes float32 of ``x`` first; its threshold is float64.

    The largest float32 that is not above the threshold divides the float32 numbers alike.
    """
    return Test("LEQ", below(threshold), left, missing)


def below(number: float) -> float:
    """The largest float32 that is at most ``number``."""
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    if float(rounded) > number:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def near(threshold: float, *, left: bool = True, missing: bool = False) -> Test:
    """``x <= threshold`` of a model that compares float64 numbers, for ``x`` rounded to float32.

    A number that equals the threshold passes once it is rounded, as it does in the original.
    """
    return Test("LEQ", nearest(threshold), left, missing, threshold)


def nearest(threshold: float) -> float:
    """The float32 nearest to a threshold; of two that are equally near, the lower.

    Half-way is where the mean of two neighbouring float32 numbers lies, which has to part them;
    LightGBM's thresholds are one float64 step above the mean. Outside the range of normal float32
    numbers it is the one below, so that no number becomes 0 or infinite.
    """
    if not SMALLEST <= abs(threshold) <= LARGEST:
        return below(threshold)
    mean = math.nextafter(threshold, -math.inf)
    low = below(mean)
    high = step(low, math.inf)
    return high if high - mean < mean - low else low


def member(
    feature: int, values: Iterable[float], listed_left: bool, sides: tuple[int, int]
) -> Split:
    """A categorical split: ``values`` go left if ``listed_left``, all else and NaN the other way.

    Values that no float32 equals are left out, since no feature can have them. ``sides`` are the
    left and the right child.
    """
    tests = tuple(
        Test("EQ", float(value), listed_left)
        for value in values
        if float(np.float32(value)) == float(value)
    )
    if not tests:
        tests = (Test("LEQ", math.inf, not listed_left, missing=True),)
    return Split(feature, tests, not listed_left, *sides)


def step(value: float, direction: float) -> float:
    """The float32 next to a float32 ``value``, upwards or downwards."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.nextafter(np.float32(value), np.float32(direction)))
