"""What is kept of a tensor: exact bounds, a histogram without a range, a sample of rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.observed import Channels, Histogram, Observed

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_is_ignored(dtype: str) -> None:
    seen = Observed()
    seen.see(np.array([1, np.nan, -2, np.inf, -np.inf], dtype))
    seen.see(np.array([np.nan], dtype))
    seen.see(np.empty((0, 3), dtype))
    assert (seen.low, seen.high, seen.batches) == (-2, 1, 1)
    assert Observed().empty
    nothing = Observed()
    nothing.see(np.full(3, np.nan, dtype))
    assert nothing.empty


def test_the_caller_may_reuse_its_arrays() -> None:
    seen, batch = Observed(), np.linspace(-1, 1, 64, dtype=np.float32)
    seen.see(batch)
    before = pickle.dumps(seen)
    batch[:] = 1000
    assert pickle.dumps(seen) == before
    batch.flags.writeable = False
    seen.see(batch)


def test_memory_does_not_grow_with_samples() -> None:
    seen, channels, sizes = Observed(), Channels(64), []
    for _ in range(4):
        for _ in range(20):
            seen.see(normal(10_000))
            rows = normal(50, 8)
            channels.add(rows.min(axis=0), rows.max(axis=0), rows)
        sizes.append(len(pickle.dumps((seen, channels))))
    assert sizes[3] <= sizes[1] * 1.2  # rare bins fill up
    assert sizes[3] < 200_000


@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), min_size=1
    )
)
def test_points_stand_for_all_values(batches: list[list[float]]) -> None:
    seen = Observed()
    for batch in batches:
        seen.see(np.array(batch, np.float32))
    values = np.sort(np.array([value for batch in batches for value in batch], np.float32))
    points = seen.points()
    assert (points.values[0], points.values[-1]) == (values[0], values[-1])
    assert (np.diff(points.values) >= 0).all()
    assert points.counts.min() > 0
    tiny = float(np.finfo(np.float32).tiny)
    for value in values:
        near = np.abs(points.values - value).min()
        assert near <= max(abs(value) / 128, tiny)


def test_quantiles_are_those_of_the_values() -> None:
    seen, values = Observed(), normal(40_000)
    for batch in np.split(values, 4):
        seen.see(batch)
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        expected = float(np.quantile(values, share))
        assert seen.points().quantile(share) == pytest.approx(expected, rel=0.02, abs=0.02)


def test_a_sample_counts_for_all_that_it_was_drawn_from() -> None:
    seen = Observed()
    seen.add(-1, 1, np.array([0.5], np.float32), 1000)
    seen.add(-1, 1, np.full(10, -0.5, np.float32), 10)
    points = seen.points()
    assert points.counts[points.values > 0.1].sum() == pytest.approx(1001)
    assert points.counts[points.values < -0.1].sum() == pytest.approx(11)


def test_infinite_bounds_fall_back_on_the_sample() -> None:
    seen = Observed()
    seen.add(float("-inf"), 2.0, np.array([-np.inf, -1, 2], np.float32), 3)
    assert (seen.low, seen.high) == (-1, 2)


def test_bins_are_narrow_at_every_magnitude() -> None:
    for magnitude in (1e-20, 1e-3, 1.0, 1e5, 1e30):
        histogram = Histogram()
        values = (RNG.uniform(1, 2, 1000) * magnitude).astype(np.float32)
        histogram.add(values)
        points = histogram.points()
        assert len(points.values) > 100
        assert points.counts.sum() == 1000
        mean = float((points.values * points.counts).sum() / 1000)
        assert mean == pytest.approx(float(values.astype(np.float64).mean()), rel=0.002)


def test_every_row_is_as_likely_to_be_kept() -> None:
    kept = np.zeros(200)
    for seed in range(150):
        channels = Channels(20, seed)
        for start in range(0, 200, 10):
            rows = np.arange(start, start + 10, dtype=np.float32)[:, None]
            channels.add(rows.min(axis=0), rows.max(axis=0), rows)
        kept[channels.rows[:, 0].astype(int)] += 1
    assert channels.rows.shape == (20, 1)
    assert (channels.low[0], channels.high[0]) == (0, 199)
    expected = 150 * 20 / 200
    assert abs(kept[:100].mean() - expected) < 1.5
    assert kept.max() < expected + 6 * np.sqrt(expected)
