"""Positions, indices and sizes: half precision would round them."""

from __future__ import annotations

import numpy as np

from onnxpress.passes.to_bfloat16 import ToBfloat16
from zoo.graphs import Array, answers, parse
from zoo.halves import FLOAT, HALF, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_positions_and_angles_stay() -> None:
    text = """(float[1,n,4] x, int64[1,n] ids) => (float[1,n,4] y) {
        f = Cast<to=1>(ids) c = Unsqueeze(f, last) a = MatMul(c, freq) s = Sin(a)
        h = MatMul(x, w) r = Mul(h, s) y = MatMul(r, w) }"""
    weights = {"w": normal(4, 4), "freq": np.array([[1, 0.1, 0.01, 0.001]], np.float32)}
    source = parse(text, last=np.array([2]), **weights)
    feeds = {"x": normal(1, 9, 4), "ids": np.arange(5000, 5009)[None]}
    after, change = narrowed(source, feeds)
    assert types(after, "Sin") == [FLOAT]
    assert types(after, "Mul") == [HALF]
    assert change.rewrites == 3
    close(source, after, feeds)
    also, _ = narrowed(source, feeds, step=ToBfloat16())
    assert types(also, "Sin") == [FLOAT]


def test_what_becomes_an_index() -> None:
    text = """(float[n,4] x, float[4000,4] table) => (float[n,2,4] y, float[n,3] z) {
        h = MatMul(x, w) s = Sigmoid(h) p = Mul(s, size) q = Add(p, half) i = Cast<to=7>(q)
        y = Gather(table, i) z = MatMul(s, v) }"""
    weights = {"w": normal(4, 2), "v": normal(2, 3), "size": np.float32(3999)}
    source = parse(text, half=np.float32(0.5), **weights)
    feeds = {"x": normal(9, 4), "table": normal(4000, 4)}
    after, _ = narrowed(source, feeds)
    assert types(after, "Mul") == types(after, "Add") == [FLOAT]
    assert types(after, "MatMul") == [HALF, HALF]


def test_operators_without_a_half_form() -> None:
    text = """(float[1,n,4] x, float[1,k,n] scores) => (int64[m,3] y) {
        b = MatMul(x, w) s = Relu(scores) y = NonMaxSuppression(b, s, most) }"""
    source = parse(text, w=normal(4, 4), most=np.array([3]))
    feeds = {"x": normal(1, 5, 4), "scores": normal(1, 2, 5)}
    after, change = narrowed(source, feeds)
    assert change.refusals == ("y: NonMaxSuppression has no float16 form",)
    assert types(after, "MatMul") == [HALF]
    np.testing.assert_array_equal(answers(after, feeds)[0], answers(source, feeds)[0])


def test_scales_of_resize_stay() -> None:
    text = "(float[n,2,4,4] x) => (float[n,3,8,8] y) { c = Conv(x, w) y = Resize(c, , scales) }"
    source = parse(text, w=normal(3, 2, 1, 1), scales=np.array([1, 1, 2, 2], np.float32))
    feeds = {"x": normal(2, 2, 4, 4)}
    after, _ = narrowed(source, feeds)
    assert types(after, "Resize") == [HALF]
    assert after.ir.graph.initializers["scales"].dtype == FLOAT
    close(source, after, feeds)
