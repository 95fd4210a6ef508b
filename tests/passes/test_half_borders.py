"""Where half precision begins and ends: casts, weights, inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxpress.model import load
from onnxpress.passes.to_float16 import ToFloat16
from onnxpress.recipe import Change, Recipe
from zoo.graphs import Array, answers, parse
from zoo.halves import FLOAT, HALF, TWO, casts, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_one_cast_in_one_cast_out_and_weights_under_their_names() -> None:
    source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert change == Change(3)
    assert casts(after) == 2
    assert {k: v.dtype for k, v in after.ir.graph.initializers.items()} == {
        "w": HALF,
        "v": HALF,
    }
    assert after.weight_bytes * 2 == source.weight_bytes
    close(source, after, x)


def test_an_output_that_is_read_as_well() -> None:
    text = """(float[n,4] x) => (float[n,5] h, float[n,3] y, float[n,5] e)
        { h = MatMul(x, w) e = Exp(h) y = MatMul(h, v) }"""
    source, x = parse(text, w=normal(4, 5) * 2, v=normal(5, 3)), {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert change.refusals == ("e: Exp: small errors become large",)
    assert casts(after) == 3, "x, h for its reader and the output, y"
    close(source, after, x, 0.3)


def test_weights_that_both_read_are_there_twice() -> None:
    text = """(float[n,4] x) => (float[n,4] y, float z)
        { y = MatMul(x, w) z = ReduceProd<keepdims=0>(w) }"""
    source, x = parse(text, w=normal(4, 4)), {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert change.refusals == ("z: ReduceProd: rounding errors add up along an axis",)
    assert sorted(v.dtype for v in after.ir.graph.initializers.values()) == [FLOAT, HALF]
    close(source, after, x)


def test_shared_weights_stay_shared() -> None:
    text = "(float[n,4] x) => (float[n,4] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    after, _ = narrowed(parse(text, w=normal(4, 4)), {"x": normal(9, 4)})
    assert list(after.ir.graph.initializers) == ["w"]


def test_nothing_but_casts_to_gain() -> None:
    text = """(float[n,4] x) => (float[n,4] y)
        { a = Relu(x) b = Tanh(a) y = Transpose<perm=[0,1]>(b) }"""
    source = parse(text)
    after, change = narrowed(source, {"x": normal(2, 4)})
    assert after is source
    assert not change.changed


def test_no_island_between_operators_that_stay() -> None:
    text = """(float[n,4] x) => (float[n,3] y) {
        h = MatMul(x, w) p = CumSum(h, axis) q = Relu(p) t = Transpose<perm=[0,1]>(q)
        r = CumSum(t, axis) y = MatMul(r, v) }"""
    weights = {"w": normal(4, 5), "v": normal(5, 3), "axis": np.array(1)}
    source, x = parse(text, **weights), {"x": normal(9, 4)}
    after, change = narrowed(source, x)
    assert change.rewrites == 2
    assert types(after, "Relu") == types(after, "Transpose") == [FLOAT]
    assert casts(after) == 4
    close(source, after, x)


def test_a_cast_that_was_there_goes_to_half_at_once() -> None:
    text = """(float[n,4] x, bool[n,4] m) => (float[n,3] y)
        { f = Cast<to=1>(m) a = Mul(x, f) y = MatMul(a, v) }"""
    source = parse(text, v=normal(4, 3))
    feeds = {"x": normal(9, 4), "m": RNG.random((9, 4)) > 0.5}
    after, _ = narrowed(source, feeds)
    assert types(after, "Cast").count(HALF) == 2
    assert casts(after) == 3
    close(source, after, feeds)


def test_inputs_and_outputs_too() -> None:
    source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
    after, _ = narrowed(source, x, step=ToFloat16(keep_io=False))
    assert [spec.dtype for spec in after.signature.inputs] == ["float16"]
    assert [spec.dtype for spec in after.signature.outputs] == ["float16"]
    assert casts(after) == 0
    [got] = answers(after, {"x": x["x"].astype(np.float16)})
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, answers(source, x)[0], atol=0.05)
    assert Recipe.parse("to_float16(keep_io=False)").passes == (ToFloat16(keep_io=False),)


def test_excluded() -> None:
    source, x = parse(TWO, w=normal(4, 5), v=normal(5, 3)), {"x": normal(9, 4)}
    after, change = narrowed(source, x, step=ToFloat16(exclude=("h",)))
    assert change.refusals == ("h: excluded",)
    assert types(after, "MatMul") == [FLOAT, HALF]


def test_weights_on_disk(external: None, tmp_path: Path) -> None:
    source = parse(TWO, w=normal(4, 500), v=normal(500, 3))
    x = {"x": normal(9, 4)}
    path = source.clone().save(tmp_path / "float.onnx")
    after, _ = narrowed(load(path), x)
    written = load(after.clone().save(path))
    assert written.weight_bytes * 2 == source.weight_bytes
    assert isinstance(written.ir.graph.initializers["w"].const_value, ir.ExternalTensor)
    expected = answers(source, x)[0]
    [got] = answers(after, x)
    np.testing.assert_allclose(got, expected, atol=4e-3 * np.abs(expected).max())
