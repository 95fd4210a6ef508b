"""The graph reduces its own activations: what comes out is what NumPy says of them."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import numpy as np
import pytest

from onnxpress.errors import EngineError, SamplesError
from onnxpress.signature import Feeds
from onnxpress.verbs.observe import Seen, observe
from onnxpress.verbs.taps import OPSET
from zoo.graphs import parse

W = np.array([[1, 2], [3, -4]], np.float32)
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def bounds(seen: Seen) -> dict[str, tuple[float, float]]:
    return {name: (each.low, each.high) for name, each in seen.tensors.items()}


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
    feeds = [{"x": np.ones((n, 2), np.float32), "i": np.ones(n, np.int64)} for n in (1, 3)]
    seen = observe(parse(text, w=W), feeds)
    assert set(seen.tensors) == set("xabfy")
    assert seen.tensors["a"].batches == 2
    assert bounds(seen)["a"] == (-2, 4)
    assert not seen.rows


def test_activations_behind_operators_of_onnxruntime_are_seen() -> None:
    text = """(float[n,2] x) => (float[n,2] y) {
        a = SimplifiedLayerNormalization<axis=-1>(x, g)
        b = MatMul(a, w)
        y = Relu(b)
    }"""
    seen = observe(parse(text, w=W, g=np.ones(2, np.float32)), [{"x": np.ones((3, 2), np.float32)}])
    assert set(seen.tensors) == set("xaby")


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 17, 18, 21])
def test_bounds_and_rows_in_every_opset(opset: int) -> None:
    text = """(float[n,4] x) => (float[n,3] y, float[n,4] x2) {
        a = Gemm(x, w, b)
        y = Sigmoid(a)
        x2 = Identity(x)
    }"""
    w, b = normal(4, 3), normal(3)
    model = parse(text, opset=opset, w=w, b=b)
    batches = [normal(n, 4) for n in (5, 1, 9)]
    seen = observe(model, [{"x": x} for x in batches], rows=8)
    x = np.concatenate(batches)
    assert bounds(seen)["x"] == (x.min(), x.max())
    low, high = bounds(seen)["a"]
    assert low == pytest.approx(float((x @ w + b).min()), rel=1e-5)
    assert high == pytest.approx(float((x @ w + b).max()), rel=1e-5)
    if opset >= OPSET:
        rows = seen.rows["x"]
        assert rows.rows.shape == (8, 4)
        np.testing.assert_array_equal(rows.low, x.min(axis=0))
        assert {tuple(row) for row in rows.rows} <= {tuple(row) for row in x}


def test_a_large_activation_is_sampled_all_over() -> None:
    model = parse("(float[n,64,64,64] x) => (float[n,64,64,64] y) { y = Relu(x) }")
    x = np.arange(64**3, dtype=np.float32).reshape(1, 64, 64, 64)
    seen = observe(model, [{"x": x}] * 3).tensors["x"]
    points = seen.points()
    assert (seen.low, seen.high) == (0, 64**3 - 1)
    assert points.counts.sum() == pytest.approx(3 * 64**3, rel=0.01)
    for share in (0.1, 0.5, 0.9):
        assert points.quantile(share) == pytest.approx(share * 64**3, rel=0.03)


def test_empty_activations_give_no_range() -> None:
    text = """(float[n,2] x) => (float[m,2] y) {
        zero = Constant<value_ints=[0]>()  one = Constant<value_ints=[0]>()
        e = Slice(x, zero, one)
        y = Relu(e)
    }"""
    seen = observe(parse(text), [{"x": normal(3, 2)}])
    assert set(seen.tensors) == {"x"}


def test_batches_are_read_once_and_a_misfit_is_named() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { a = MatMul(x, w)  y = Relu(a) }", w=W)
    calls: list[int] = []

    def batches() -> Iterator[Feeds]:
        calls.append(1)
        yield {"x": np.array([[1, 0]], np.float32)}
        yield {"x": np.array([[0, 1], [0, 0]], np.float32)}

    assert bounds(observe(model, batches())) == {"x": (0, 1), "a": (-4, 3), "y": (0, 3)}
    assert len(calls) == 1
    with pytest.raises(SamplesError, match="input 'x' got float32"):
        observe(model, [{"x": np.ones((1, 3), np.float32)}])


def test_names_that_the_taps_would_like_may_be_taken() -> None:
    text = """(float[n,2] sampling_start) => (float[n,2] sampling_Reshape) {
        sampling_Reshape = MatMul(sampling_start, sampling_constant)
    }"""
    seen = observe(parse(text, sampling_constant=W), [{"sampling_start": normal(3, 2)}], rows=4)
    assert set(seen.tensors) == {"sampling_start", "sampling_Reshape"}


def test_a_model_that_onnxruntime_cannot_run_is_an_error() -> None:
    text = "(float[n,2] x) => (float[n,2] y) { a = Reshape(x, s)  y = Add(a, x) }"
    model = parse(text, s=np.array([7, -1], np.int64))
    with pytest.raises(EngineError, match="onnxruntime failed to run"):
        observe(model, [{"x": normal(2, 2)}])


def test_memory_does_not_grow_with_samples() -> None:
    text = "(float[n,8,64,64] x) => (float[n,8,64,64] y) {"
    text += "a = Neg(x) b = Sigmoid(a) c = Tanh(b) d = Abs(c) y = Neg(d) }"
    model = parse(text)

    def batches(count: int) -> Iterator[Feeds]:
        for seed in range(count):
            rng = np.random.default_rng(seed)
            yield {"x": rng.standard_normal((8, 8, 64, 64)).astype(np.float32)}

    observe(model, batches(4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    observe(model, batches(40))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("opset", [13, 18])
def test_channels_of_what_linear_operators_read(opset: int) -> None:
    """Bounds and means per channel, over all samples and not over batches."""
    text = """(float[n,2,3,3] x, float[n,2] z) => (float[n,4,3,3] y, float[n,2] m) {
        y = Conv<group=2>(x, c)  m = MatMul(z, w)
    }"""
    model = parse(text, opset, c=normal(4, 1, 1, 1), w=W)
    sizes = (1, 3, 4)
    feeds = [{"x": normal(n, 2, 3, 3), "z": normal(n, 2)} for n in sizes]
    assert not observe(model, feeds).moments
    seen = observe(model, feeds, channels=True).moments
    assert seen.keys() == {"x", "z"}
    for name, axes in (("x", (0, 2, 3)), ("z", (0,))):
        every, found = np.concatenate([each[name] for each in feeds]), seen[name]
        assert found.count == every.size / 2
        np.testing.assert_array_equal(found.low, every.min(axes))
        np.testing.assert_array_equal(found.high, every.max(axes))
        np.testing.assert_allclose(found.mean, every.mean(axes), atol=1e-6)
        np.testing.assert_allclose(found.square, np.square(every).mean(axes), rtol=1e-5)


def test_channels_that_are_read_in_two_ways_are_left_out() -> None:
    text = """(float[n,2,2] x) => (float[n,2,2] y, float[n,2,2] m) {
        y = Conv(x, c)  m = MatMul(x, w)
    }"""
    model = parse(text, c=normal(2, 2, 1), w=W)
    assert not observe(model, [{"x": normal(3, 2, 2)}], channels=True).moments


def test_batches_that_are_not_finite_say_nothing_of_channels() -> None:
    model = parse("(float[n,2] x) => (float[n,2] y) { y = MatMul(x, w) }", w=W)
    bad = normal(3, 2)
    bad[1, 1] = np.inf
    good = normal(3, 2)
    seen = observe(model, [{"x": bad}, {"x": good}], channels=True).moments["x"]
    np.testing.assert_allclose(seen.mean, good.mean(axis=0), atol=1e-6)
