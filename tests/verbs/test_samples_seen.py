"""What is told of samples before a model has seen them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.verbs.samples_seen import Watched

INF = np.inf


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([1.0, INF], True),
        ([0.0, INF], True),
        ([1.0, -INF], True),
        ([0.0, -INF], False),  # a mask that is added
        ([1.0, 2.0], False),
    ],
)
def test_infinite_numbers_but_for_masks(row: list[float], told: bool) -> None:
    rows = [{"x": np.array([row], np.float32), "n": np.array([index])} for index in range(40)]
    watched = Watched(lambda: rows, len(rows))
    assert list(watched()) == rows
    what = ("infinite numbers in input 'x': the ranges leave them out",)
    assert watched.warnings == (what if told else ())
