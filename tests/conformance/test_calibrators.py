"""Every calibrator chooses, from one observation, a finite range within what was seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxpress import registry
from onnxpress.calibrator import Calibrator, Range
from onnxpress.observed import Observed
from onnxpress.quantization import ACTIVATIONS, activation_grid
from onnxpress.spelling import read, spelled

every_calibrator = pytest.mark.parametrize("name", registry.names("calibrators"))
every_dtype = pytest.mark.parametrize("dtype", ACTIVATIONS)


def made(name: str) -> Calibrator:
    return registry.create(Calibrator, "calibrators", name)


def seen(*batches: np.ndarray) -> Observed:
    observed = Observed()
    for batch in batches:
        observed.see(batch)
    return observed


def normal(seed: int = 0, size: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


@every_calibrator
def test_is_frozen_and_survives_its_text(name: str) -> None:
    calibrator = made(name)
    assert read(Calibrator, "calibrators", spelled(calibrator)) == calibrator
    assert dataclasses.is_dataclass(calibrator)
    hash(calibrator)


@every_calibrator
@every_dtype
@pytest.mark.parametrize("shape", ["normal", "positive", "negative", "outlier"])
def test_ranges_are_ordered_and_within_what_was_seen(name: str, dtype: str, shape: str) -> None:
    batches = [normal(seed) for seed in range(4)]
    if shape == "positive":
        batches = [np.abs(batch) for batch in batches]
    elif shape == "negative":
        batches = [-np.abs(batch) for batch in batches]
    elif shape == "outlier":
        batches[1][7] = 60
    found = made(name).range(seen(*batches), dtype)
    values = np.concatenate(batches)
    assert values.min() <= found.low < found.high <= values.max()
    assert type(found.low) is type(found.high) is float


@every_calibrator
@every_dtype
def test_nearly_everything_is_represented(name: str, dtype: str) -> None:
    values = normal(size=50_000)
    grid = activation_grid(made(name).range(seen(values), dtype), dtype)
    noise = np.square(grid.nearest(values) - values).mean() / np.square(values).mean()
    assert noise < 1e-3


@every_calibrator
def test_constants_and_masks_are_left_whole(name: str) -> None:
    calibrator = made(name)
    assert calibrator.range(seen(np.zeros(5)), "uint8") == Range(0, 0)
    assert calibrator.range(seen(np.full(5, 3.0)), "uint8") == Range(3, 3)
    lowest = float(np.finfo(np.float32).min)
    mask = np.array([0, lowest] * 8, np.float32)
    assert calibrator.range(seen(mask), "int8") == Range(lowest, 0)


@every_calibrator
def test_what_was_seen_is_not_changed(name: str) -> None:
    observed = seen(normal())
    first = made(name).range(observed, "uint8")
    assert made(name).range(observed, "uint8") == first
    assert (observed.low, observed.high) == (normal().min(), normal().max())


def test_searches_cut_off_a_lonely_outlier_as_little_as_pays() -> None:
    """One value of 50,000 at 12 σ: min-max wastes three quarters of the grid on it."""
    values = normal(size=50_000)
    values[0] = 12
    errors = {}
    for name in registry.names("calibrators"):
        grid = activation_grid(made(name).range(seen(values), "int8"), "int8")
        errors[name] = float(np.square(grid.nearest(values) - values).mean())
    assert errors["mse"] == min(errors.values())
    assert errors["mse"] < 0.9 * errors["minmax"]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_mse_is_as_good_as_an_exhaustive_search(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_t(3, 20_000) + rng.uniform(-2, 2)).astype(np.float32)

    def error(span: Range) -> float:
        return float(np.square(activation_grid(span, dtype).nearest(values) - values).sum())

    observed = seen(values)
    mine = error(made("mse").range(observed, dtype))
    tried = [
        error(Range(float(observed.low * a), float(observed.high * b)))
        for a in np.geomspace(0.03, 1, 40)
        for b in ([a] if dtype == "int8" else np.geomspace(0.03, 1, 40))
    ]
    assert mine <= 1.03 * min(tried)


def test_percentile_by_hand() -> None:
    calibrator = read(Calibrator, "calibrators", "percentile(percentile=90)")
    values = np.arange(1, 1001, dtype=np.float32)
    found = calibrator.range(seen(values), "uint8")
    assert found.low == 1
    assert found.high == pytest.approx(900, rel=0.01)
    both = calibrator.range(seen(np.concatenate([values, -values])), "uint8")
    assert both.high == pytest.approx(900, rel=0.01)
    assert both.low == pytest.approx(-900, rel=0.01)


def test_moving_average_by_hand() -> None:
    batches = [np.array([-1, 2.0]), np.array([-3, 6.0])]
    assert made("moving_average").range(seen(*batches), "uint8") == Range(-2, 4)
