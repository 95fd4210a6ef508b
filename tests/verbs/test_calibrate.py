"""Calibration sees every float activation of the graph, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from onnxpress.calibrator import Calibrator, Range
from onnxpress.errors import SamplesError
from onnxpress.passes.quantize_static import QuantizeStatic
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.recipe import Recipe
from onnxpress.signature import Feeds
from onnxpress.verbs.calibrate import gather, observe
from zoo.graphs import parse

W = np.array([[1, 2], [3, -4]], np.float32)


class Diary(Calibrator):
    """Keeps the names and shapes of what it saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, tuple[int, ...]]] = []

    def observe(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.seen.append({name: array.shape for name, array in tensors.items()})

    def ranges(self) -> dict[str, Range]:
        return {}


def test_every_float_activation_and_nothing_else() -> None:
    text = """(float[n,2] x, int64[n] i) => (float[n,2] y, int64[n] j) {
        a = MatMul(x, w)
        parts = SplitToSequence<axis=0>(a)
        b = ConcatFromSequence<axis=0>(parts)
        h = Cast<to=10>(b)
        f = Cast<to=1>(h)
        y = Relu(f)
        j = Neg(i)
    }"""
    diary = Diary()
    feeds = [{"x": np.ones((n, 2), np.float32), "i": np.ones(n, np.int64)} for n in (1, 3)]
    observe(parse(text, w=W), feeds, diary)
    assert diary.seen == [dict.fromkeys("xabfy", (n, 2)) for n in (1, 3)]


def test_activations_behind_operators_of_onnxruntime_are_seen() -> None:
    text = """(float[n,2] x) => (float[n,2] y) {
        a = SimplifiedLayerNormalization<axis=-1>(x, g)
        b = MatMul(a, w)
        y = Relu(b)
    }"""
    diary = Diary()
    batch = {"x": np.ones((3, 2), np.float32)}
    observe(parse(text, w=W, g=np.ones(2, np.float32)), [batch], diary)
    assert diary.seen == [dict.fromkeys("xaby", (3, 2))]


def test_ranges_by_hand_and_feeds_read_once() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { a = MatMul(x, w)  y = Relu(a) }", w=W)
    calls = []

    def batches() -> Iterator[Feeds]:
        calls.append(1)
        yield {"x": np.array([[1, 0]], np.float32)}
        yield {"x": np.array([[0, 1], [0, 0]], np.float32)}

    ranges = gather(QuantizeStatic(), model, batches).ranges
    assert ranges == {"x": Range(0, 1), "a": Range(-4, 3), "y": Range(0, 3)}
    recipe = Recipe.parse("quantize_static,quantize_static(activations=int8)")
    assert gather(recipe, model, batches).ranges == ranges
    assert len(calls) == 2, "one calibrator, one run"
    assert gather(QuantizeWeights(), model, batches).ranges == {}
    assert len(calls) == 2, "nothing is run where nothing is needed"


def test_samples_that_do_not_fit_are_named() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { y = Relu(x) }")
    with pytest.raises(SamplesError, match="input 'x' got float32"):
        gather(QuantizeStatic(), model, lambda: [{"x": np.ones((1, 3), np.float32)}])
