"""The facts that passes need, from one pass over the samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnxpress.calibrator import Range
from onnxpress.errors import SamplesError
from onnxpress.passes.quantize_static import QuantizeStatic
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.recipe import Ranges, Recipe
from onnxpress.signature import Feeds
from onnxpress.verbs.calibrate import Gatherer, applied, gather
from zoo.graphs import parse

W = np.array([[1, 2], [3, -4]], np.float32)


def test_ranges_by_hand_and_feeds_read_once() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { a = MatMul(x, w)  y = Relu(a) }", w=W)
    calls = []

    def batches() -> Iterator[Feeds]:
        calls.append(1)
        yield {"x": np.array([[1, 0]], np.float32)}
        yield {"x": np.array([[0, 1], [0, 0]], np.float32)}

    ranges = gather(QuantizeStatic(), model, batches).ranges
    assert ranges == {Ranges(): {"x": Range(0, 1), "a": Range(-4, 3), "y": Range(0, 3)}}
    recipe = Recipe.parse(
        "quantize_static,quantize_static(activations=int8),smooth_activations,"
        "quantize_static(calibrator=percentile(percentile=99.9)),quantize_static(calibrator=mse)"
    )
    facts = gather(recipe, model, batches)
    assert len(calls) == 2, "one pass over the samples serves all calibrators, and the rows"
    assert facts.ranges[Ranges()] == ranges[Ranges()]
    assert facts.ranges.keys() == {
        Ranges(),
        Ranges("minmax", "int8"),
        Ranges("percentile(percentile=99.9)"),
        Ranges("mse"),
    }
    assert facts.rows["x"].rows.shape == (3, 2)
    assert gather(QuantizeWeights(), model, batches).ranges == {}
    assert len(calls) == 2, "nothing is run where nothing is needed"


def test_facts_are_gathered_anew_where_the_model_has_changed() -> None:
    """Smoothing makes an activation of its own; the pass behind it needs its range."""
    rng = np.random.default_rng(0)
    weight, spread = rng.standard_normal((8, 8)).astype(np.float32), np.ones(8, np.float32)
    spread[3] = 100
    model = parse("(float[n,8] x) => (float[n,8] y) { y = MatMul(x, w) }", w=weight)
    feeds = [{"x": rng.standard_normal((64, 8)).astype(np.float32) * spread} for _ in range(2)]
    smooth = Recipe.parse("smooth_activations,quantize_static")
    done, change = applied(smooth, model, Gatherer(lambda: feeds))
    assert change.rewrites == 2
    assert not change.reasons
    assert "QuantizeLinear" in done.op_counts()
    assert [entry.step for entry in done.journal.entries] == list(map(str, smooth.passes))


def test_samples_that_do_not_fit_are_named() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { y = Relu(x) }")
    with pytest.raises(SamplesError, match="input 'x' got float32"):
        gather(QuantizeStatic(), model, lambda: [{"x": np.ones((1, 3), np.float32)}])
