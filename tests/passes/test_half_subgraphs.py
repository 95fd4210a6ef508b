"""Branches, loops and functions in half precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxpress.calibrator import Range
from onnxpress.model import Model
from onnxpress.passes.inline_functions import InlineFunctions
from onnxpress.passes.to_bfloat16 import ToBfloat16
from onnxpress.passes.to_float16 import RANGES, ToFloat16
from onnxpress.recipe import Facts, Pass
from zoo.graphs import Array, parse
from zoo.halves import FLOAT, HALF, close, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


LOOP = """(float[n,4] x, bool flag, int64 count) => (float[n,4] y) {
    h = MatMul(x, w)
    b = If (flag) <
        then_branch = yes () => (float[n,4] t) { a = MatMul(h, u) t = Add(a, h) },
        else_branch = no () => (float[n,4] e) { e = Mul(h, two) }>
    l = Loop (count, flag, b) <body = turn (int64 i, bool c, float[n,4] s) =>
        (bool again, float[n,4] z) { again = Identity(c) q = MatMul(s, u) z = Tanh(q) }>
    y = MatMul(l, w) }"""


@pytest.mark.parametrize("step", [ToFloat16(), ToBfloat16()], ids=str)
@pytest.mark.parametrize("flag", [True, False])
def test_branches_and_loops(step: Pass, flag: bool) -> None:
    weights = {"w": normal(4, 4) / 2, "u": normal(4, 4) / 2, "two": np.float32(2)}
    source = parse(LOOP, **weights)
    feeds = {"x": normal(9, 4), "flag": np.array(flag), "count": np.array(3)}
    after, change = narrowed(source, feeds, step=step)
    why = "what goes into its graphs and out of them keeps its type"
    assert change.refusals == (f"b: {why}", f"l: {why}")
    assert FLOAT not in types(after, "MatMul"), "in the branch and the body as well"
    assert len(types(after, "MatMul")) == 4
    close(source, after, feeds)


def test_functions_are_inlined_first() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (float[n,4] x) => (float[n,4] y) <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}>
        { h = own.f(x) y = MatMul(h, w) }
        <opset_import: ["": 17], domain: "own"> f (a) => (b) { b = Neg(a) }"""
    source = Model(ir.from_onnx_text(text))
    facts = Facts({RANGES: {"x": Range(-4, 4)}})
    _, change = ToFloat16().apply(source, facts)
    assert change.refusals[0] == "h: the type of a value is unknown"
    inlined, _ = InlineFunctions().apply(source)
    after, change = narrowed(inlined, {"x": normal(2, 4)})
    assert not change.refusals
    assert types(after, "MatMul") == [HALF]
