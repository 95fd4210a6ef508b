"""Rows that tell whether two forests agree: beside thresholds, categories, missing values."""

from __future__ import annotations

import math

import numpy as np

from onnxpress.trees.forest import Forest, Split, Tree, step

SAMPLED = 64
"""Splits that are probed; each takes a row at, below and above every one of its first values."""
VALUES_OF_A_SPLIT = 3
HUGE = 1e18
"""Thresholds from here on mean 'no threshold', and would spoil the range of an example."""
UNSEEN = 1e6
"""A category that no model knows."""


def beside_thresholds(forest: Forest, seed: int = 0) -> np.ndarray:
    """float32 [rows, features]: rows that reach a sample of splits and stand beside each.

    At the threshold, one float32 step below and above it, and NaN where the forest takes it.
    """
    splits = list(forest.splits())
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(splits))[:SAMPLED]
    parents = {number: _parents(forest.trees[number]) for number in {splits[i][0] for i in chosen}}
    middle = example(forest, 1, seed)[0]
    rows = []
    for number, index, split in (splits[i] for i in chosen):
        row = _reaching(forest.trees[number], parents[number], index, middle)
        values = _beside(split)[: 3 * VALUES_OF_A_SPLIT]
        rows += [_with(row, split.feature, value) for value in values]
        if any(test.mode == "EQ" for test in split.tests):
            rows.append(_with(row, split.feature, UNSEEN))
        if forest.takes_missing:
            missing = forest.missing  # NaN itself, or what stands for it
            rows.append(_with(row, split.feature, missing))
    return np.array(rows, np.float32).reshape(-1, forest.features)


def example(forest: Forest, rows: int = 16, seed: int = 0) -> np.ndarray:
    """float32 [rows, features]: each feature drawn from the values that its splits ask for."""
    asked: dict[int, set[float]] = {}
    for _, _, split in forest.splits():
        values = asked.setdefault(split.feature, set())
        values.update(test.value for test in split.tests if abs(test.value) < HUGE)
    rng = np.random.default_rng(seed)
    result = np.zeros((rows, forest.features), np.float32)
    for feature, values in asked.items():
        if values:
            result[:, feature] = rng.choice(sorted(values), rows)
    return result


def _beside(split: Split) -> list[float]:
    """Each test's value and its float32 neighbours; of a category the value alone."""
    found = []
    for test in split.tests:
        found.append(test.value)
        if test.mode != "EQ":
            found += [step(test.value, -math.inf), step(test.value, math.inf)]
    return [value for value in found if math.isfinite(value)]


def _parents(tree: Tree) -> dict[int, int]:
    return {
        child: index
        for index, node in enumerate(tree)
        if isinstance(node, Split)
        for child in (node.left, node.right)
    }


def _reaching(tree: Tree, parents: dict[int, int], index: int, row: np.ndarray) -> np.ndarray:
    """``row`` with the features changed that would lead it away from node ``index``."""
    wanted: dict[int, list[tuple[Split, bool]]] = {}
    while index in parents:
        above = tree[parents[index]]
        assert isinstance(above, Split)
        wanted.setdefault(above.feature, []).append((above, above.left == index))
        index = parents[index]
    row = row.copy()
    for feature, ways in wanted.items():
        tries = [float(row[feature]), UNSEEN, math.nan]
        tries[1:1] = [value for split, _ in ways for value in _beside(split)]
        for value in tries:
            if all(split.goes_left(value) == left for split, left in ways):
                row[feature] = value
                break
    return row


def _with(row: np.ndarray, feature: int, value: float) -> np.ndarray:
    changed = row.copy()
    changed[feature] = value
    return changed
