"""What a float32 feature was in the user's float64 table, where a float64 threshold would notice.

0.1 as float32 is above 0.1, so that ``x <= 0.1`` holds for the table's cell and not for what is
fed. A model of float64 thresholds is asked about the cell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxpress.trees.forest import Forest, nearest

Cells = Mapping[int, tuple[np.ndarray, np.ndarray]]
"""Feature → float32 values, ascending, and the float64 threshold that each was rounded up from."""


def cells_of(forest: Forest) -> Cells:
    """Empty where the forest compares in float32. The lowest of several thresholds counts."""
    found: dict[int, dict[float, float]] = {}
    for _, _, split in forest.splits():
        for test in split.tests:
            if test.exact is not None and nearest(test.exact) > test.exact:
                known = found.setdefault(split.feature, {})
                value = nearest(test.exact)
                known[value] = min(test.exact, known.get(value, test.exact))
    return {
        feature: (
            np.array(sorted(known), np.float32),
            np.array([known[value] for value in sorted(known)], np.float64),
        )
        for feature, known in found.items()
    }


def widened(cells: Cells, features: np.ndarray) -> np.ndarray:
    """``features`` [rows, columns] as float64, with thresholds in place of their float32 values."""
    result = np.array(features, np.float64)
    for feature, (values, thresholds) in cells.items():
        column = result[:, feature].astype(np.float32)
        index = np.minimum(np.searchsorted(values, column), len(values) - 1)
        result[:, feature] = np.where(
            values[index] == column, thresholds[index], result[:, feature]
        )
    return result
