"""What is too large or too small for float16 stays, or is clipped to what it holds."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.calibrator import Range
from onnxpress.passes.to_float16 import RANGES, ToFloat16
from onnxpress.recipe import Change, Facts
from zoo.graphs import Array, answers, parse
from zoo.halves import FLOAT, HALF, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_planted() -> None:
    text = """(float[n,4] x) => (float[n,3] y) {
        h = MatMul(x, w) big = MatMul(h, u) n = LayerNormalization(big, g) y = MatMul(n, v) }"""
    weights = {"w": normal(4, 5), "u": normal(5, 5) * 5e4, "v": normal(5, 3), "g": normal(5)}
    source, x = parse(text, **weights), {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert types(after, "MatMul") == [HALF, FLOAT, HALF]
    assert [reason.split(": ")[0] for reason in change.refusals] == ["big", "n"]
    assert "reaches ±" in change.refusals[1]
    close(source, after, x)
    blind, _ = ToFloat16().apply(source, Facts({RANGES: {"x": Range(-4, 4)}}))
    assert not np.isfinite(answers(blind, x)[0]).all(), "without what was seen it overflows"


def test_sums_that_overflow_before_the_division() -> None:
    text = """(float[n,512] x) => (float[n,3] y) {
        h = MatMul(x, w) m = ReduceMean<axes=[1],keepdims=1>(h) d = Sub(h, m)
        y = MatMul(d, v) }"""
    source = parse(text, w=normal(512, 512) * 10, v=normal(512, 3))
    x = {"x": normal(9, 512) + 2}
    after, change = narrowed(source, x)
    assert types(after, "ReduceMean") == [FLOAT]
    assert change.refusals[0].startswith("m: ReduceMean: adds up 512 numbers of up to")
    close(source, after, x)
    small, _ = narrowed(source, {"x": x["x"] / 100})
    assert types(small, "ReduceMean") == [HALF]


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_epsilons_that_vanish(epsilon: float) -> None:
    text = """(float[n,8] x) => (float[n,3] y) {
        h = MatMul(x, w) s = Mul(h, h) m = ReduceMean<axes=[1],keepdims=1>(s) e = Add(m, eps)
        r = Sqrt(e) d = Div(h, r) y = MatMul(d, v) }"""
    source = parse(text, w=normal(8, 8), v=normal(8, 3), eps=np.float32(epsilon))
    x = {"x": normal(9, 8)}
    x["x"][0] = 0
    after, change = narrowed(source, x)
    assert f"e: eps is at most ±{epsilon:.4g}" in change.refusals
    assert ("d: r may become 0" in change.refusals) == (epsilon == 1e-12)
    assert types(after, "MatMul") == [HALF, HALF]
    close(source, after, x)


def test_the_bounds_of_clip_may_be_no_bounds() -> None:
    text = """(float[n,4] x) => (float[n,3] y)
        { h = MatMul(x, w) c = Clip(h, low, high) y = MatMul(c, v) }"""
    most = np.finfo(np.float32).max
    source = parse(text, w=normal(4, 5), v=normal(5, 3), low=np.float32(0), high=most)
    x = {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert change == Change(3)
    high = after.ir.graph.initializers["high"].const_value
    assert high is not None
    assert high.numpy() == 65504
    close(source, after, x)


def test_infinite_paddings() -> None:
    text = """(float[n,2,8,8] x) => (float[n,3,6,6] y) {
        p = Pad(x, pads, low) m = MaxPool<kernel_shape=[3,3]>(p) y = Conv(m, w) }"""
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    source = parse(text, w=normal(3, 2, 3, 3), pads=pads, low=np.float32(-np.inf))
    x = {"x": normal(2, 2, 8, 8)}
    after, _ = narrowed(source, x)
    assert types(after, "Conv") == [HALF]
    close(source, after, x)
