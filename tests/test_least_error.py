"""Scales that lose least, against a search that leaves out nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.least_error import fitted

RNG = np.random.default_rng(0)


def errors(rows: np.ndarray, scale: np.ndarray, limit: int) -> np.ndarray:
    """Squared, of each row."""
    away = np.clip(np.rint(rows / scale[:, None]), -limit, limit) * scale[:, None] - rows
    return np.asarray(np.square(away.astype(np.float64)).sum(axis=1))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("count", [32, 576, 4608])
def test_near_the_best_of_all_scales_whatever_the_tails(bits: int, count: int) -> None:
    rows = RNG.laplace(size=(16, count)).astype(np.float32)
    limit = 2 ** (bits - 1) - 1
    widest = np.abs(rows).max(axis=1) / np.float32(limit)
    found = errors(rows, fitted(rows, widest, -limit, limit), limit)
    shares = np.linspace(0.05, 1.3, 500, dtype=np.float32)
    best = np.min([errors(rows, widest * share, limit) for share in shares], axis=0)
    assert found.sum() < 1.02 * best.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([2, 4, 8]))
def test_never_worse_than_the_given_scale(seed: int, count: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_t(2, (7, count)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    limit = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(rows).max(1) / limit, 1e-30).astype(np.float32)
    found = fitted(rows, scale, -limit, limit)
    assert found.dtype == np.float32
    assert (errors(rows, found, limit) <= errors(rows, scale, limit) * (1 + 1e-5)).all()


def test_rows_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scale = RNG.standard_normal((50, 16)).astype(np.float32), np.full(50, 0.3, np.float32)
    at_once = fitted(rows, scale, -7, 7)
    monkeypatch.setattr("onnxpress.least_error.CHUNK", 100)
    np.testing.assert_array_equal(fitted(rows, scale, -7, 7), at_once)
