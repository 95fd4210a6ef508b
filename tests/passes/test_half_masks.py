"""What hides scores from attention, as low as float32 goes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxpress.model import Model
from onnxpress.passes.to_bfloat16 import ToBfloat16
from onnxpress.passes.to_float16 import ToFloat16
from onnxpress.recipe import Pass
from zoo.graphs import Array, answers, parse
from zoo.halves import FLOAT, HALF, Feeds, both, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


LOWEST = np.finfo(np.float32).min
MASKS = {
    "selected": "k = Not(pad) m = Where(k, zero, low)",
    "multiplied": "f = Cast<to=1>(pad) m = Mul(f, low)",
    "added twice": "f = Cast<to=1>(pad) a = Mul(f, low) m = Add(a, a)",
}
ATTENTION = """(float[n,l,8] x, bool[n,1,l] pad) => (float[n,l,8] y) {{
    {mask}
    q = MatMul(x, wq) k0 = MatMul(x, wk) t = Transpose<perm=[0,2,1]>(k0) s = MatMul(q, t)
    b = {join} p = Softmax<axis=-1>(b) v = MatMul(x, wv) o = MatMul(p, v) y = MatMul(o, wo) }}"""


def attention(mask: str, low: float, join: str = "Add(s, m)") -> Model:
    weights = {name: normal(8, 8) / 3 for name in ("wq", "wk", "wv", "wo")}
    text = ATTENTION.format(mask=mask, join=join)
    return parse(text, low=np.float32(low), zero=np.float32(0), **weights)


def padded(rows: int = 3, length: int = 6) -> Feeds:
    """Each row but the first has a little more padding; none is nothing but padding."""
    pad = np.arange(length)[None] >= length - np.arange(rows)[:, None]
    return {"x": normal(rows, length, 8), "pad": pad[:, None]}


@pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("low", [LOWEST, -1e9, -1e4, -np.inf])
def test_added(mask: str, low: float, step: Pass) -> None:
    if np.isinf(low) and mask != "selected":
        pytest.skip("0 · ∞")
    source, feeds = attention(MASKS[mask], low), padded()
    after, change = narrowed(source, feeds, step=step)
    assert not change.refusals
    assert FLOAT not in types(after, "Softmax")
    close(source, after, feeds)


@pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
@pytest.mark.parametrize("low", [LOWEST, -1e9, -np.inf])
def test_selected_scores(low: float, step: Pass) -> None:
    source, feeds = attention("k = Not(pad)", low, "Where(k, s, low)"), padded()
    after, change = narrowed(source, feeds, step=step)
    assert not change.refusals
    assert FLOAT not in types(after, "Softmax")
    close(source, after, feeds)


@pytest.mark.parametrize("mask", MASKS)
def test_that_no_sample_showed(mask: str) -> None:
    source, feeds = attention(MASKS[mask], LOWEST), padded()
    after, _ = narrowed(source, {**feeds, "pad": np.zeros_like(feeds["pad"])})
    close(source, after, feeds)


def test_nothing_but_padding_gives_numbers() -> None:
    source, feeds = attention(MASKS["multiplied"], LOWEST), padded()
    nothing = {**feeds, "pad": np.ones_like(feeds["pad"])}
    after, _ = narrowed(source, feeds)
    assert np.isfinite(answers(source, nothing)[0]).all()
    for got in both(after, nothing):
        assert np.isfinite(got[0]).all()


def test_given_by_the_caller() -> None:
    source, feeds = attention("m = Identity(given)", LOWEST), padded()
    proto = ir.to_proto(source.ir)
    shape = ["n", 1, "l"]
    proto.graph.input.append(helper.make_tensor_value_info("given", TensorProto.FLOAT, shape))
    source = Model(ir.from_proto(proto))
    feeds = {**feeds, "given": np.where(feeds["pad"], LOWEST, 0).astype(np.float32)}
    after, change = narrowed(source, feeds)
    assert not change.refusals
    close(source, after, feeds)


def test_one_that_is_an_output_too_stays() -> None:
    source, feeds = attention(MASKS["multiplied"], LOWEST), padded()
    proto = ir.to_proto(source.ir)
    proto.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    source = Model(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))
    after, change = narrowed(source, feeds)
    assert types(after, "Softmax") == [FLOAT]
    assert change.refusals[0].startswith("b: m reaches ±3.4")
    assert set(types(after, "MatMul")) == {HALF}
    close(source, after, feeds)
