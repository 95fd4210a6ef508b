"""Every calibrator watches in constant memory, keeps nothing of ours, and tells finite ranges."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from onnxpress import registry
from onnxpress.calibrator import Calibrator

pytestmark = pytest.mark.parametrize("name", registry.names("calibrators"))
RNG = np.random.default_rng(0)


def made(name: str) -> Calibrator:
    return registry.create(Calibrator, "calibrators", name)


def test_ranges_are_ordered_finite_and_within_what_was_seen(name: str) -> None:
    calibrator = made(name)
    batches = [RNG.standard_normal((8, 4, 4)).astype(np.float32) for _ in range(6)]
    for batch in batches:
        calibrator.observe({"a": batch, "positive": np.abs(batch), "scalar": batch[0, 0, 0]})
    ranges = calibrator.ranges()
    assert set(ranges) == {"a", "positive", "scalar"}
    seen = np.stack(batches)
    for found, values in ((ranges["a"], seen), (ranges["positive"], np.abs(seen))):
        assert values.min() <= found.low < found.high <= values.max()
        assert isinstance(found.low, float)
    assert ranges["positive"].low >= 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_is_ignored(name: str, dtype: str) -> None:
    calibrator = made(name)
    calibrator.observe({"a": np.array([1, np.nan, -2, np.inf, -np.inf], dtype)})
    calibrator.observe({"a": np.array([np.nan], dtype), "nothing": np.full(3, np.nan, dtype)})
    calibrator.observe({"empty": np.empty((0, 3), dtype)})
    ranges = calibrator.ranges()
    assert set(ranges) == {"a"}
    assert (ranges["a"].low, ranges["a"].high) == (-2, 1)


def test_a_constant_has_a_range(name: str) -> None:
    calibrator = made(name)
    calibrator.observe({"zero": np.zeros(5, np.float32), "three": np.full(5, 3, np.float32)})
    ranges = calibrator.ranges()
    assert (ranges["zero"].low, ranges["zero"].high) == (0, 0)
    assert ranges["three"].high == 3


def test_the_caller_may_reuse_its_arrays(name: str) -> None:
    calibrator = made(name)
    batch = np.linspace(-1, 1, 64, dtype=np.float32)
    calibrator.observe({"a": batch})
    before = calibrator.ranges()["a"]
    batch[:] = 1000
    assert calibrator.ranges()["a"] == before
    batch.flags.writeable = False
    calibrator.observe({"b": batch})


def test_memory_does_not_grow_with_samples(name: str) -> None:
    calibrator = made(name)
    sizes = []
    for _ in range(3):
        for _ in range(20):
            calibrator.observe({"a": RNG.standard_normal(10_000).astype(np.float32)})
        sizes.append(len(pickle.dumps(calibrator)))
    assert sizes[2] <= sizes[0] + 1024
    assert sizes[2] < 200_000


def test_two_do_not_share_what_they_saw(name: str) -> None:
    first, second = made(name), made(name)
    first.observe({"a": np.ones(3, np.float32)})
    assert second.ranges() == {}
    first.ranges().clear()
    assert set(first.ranges()) == {"a"}
