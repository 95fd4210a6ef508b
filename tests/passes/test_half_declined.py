"""What is not converted at all, and why."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from onnxpress.model import Model
from onnxpress.passes.to_bfloat16 import ToBfloat16
from onnxpress.passes.to_float16 import ToFloat16
from onnxpress.recipe import Change
from zoo.graphs import Array, parse
from zoo.halves import HALF, TWO, casts, narrowed, types

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_what_is_half_already() -> None:
    text = "(float16[n,4] x) => (float[n,4] y) { y = Cast<to=1>(x) }"
    reason = "it has float16 values already: convert the float32 model"
    assert ToBfloat16().apply(parse(text))[1] == Change(0, (reason,))


def test_float64() -> None:
    text = "(double[n,4] x) => (double[n,4] y) { y = MatMul(x, w) }"
    source = parse(text, w=normal(4, 4).astype(np.float64))
    reason = "it has no float32 values, but double"
    assert ToBfloat16().apply(source)[1] == Change(0, (reason,))


def test_float64_beside_float32() -> None:
    text = """(double[n,4] x) => (double[n,4] y)
        { a = MatMul(x, d) f = Cast<to=1>(a) h = MatMul(f, w) y = Cast<to=11>(h) }"""
    source = parse(text, w=normal(4, 4), d=normal(4, 4).astype(np.float64))
    after, _ = narrowed(source, {"x": normal(9, 4).astype(np.float64)})
    assert types(after, "MatMul") == [ir.DataType.DOUBLE, HALF]
    assert casts(after) == 2, "the two that were there"


def test_without_ranges_and_old_opsets() -> None:
    source = parse(TWO, w=normal(4, 5), v=normal(5, 3))
    assert ToFloat16().apply(source)[1] == Change(0, ("no ranges were observed",))
    old = parse(TWO, opset=12, w=normal(4, 5), v=normal(5, 3))
    assert ToBfloat16().apply(old)[1] == Change(0, ("bfloat16 needs opset 13",))
    after, change = narrowed(old, {"x": normal(2, 4)})
    assert change.changed
    assert casts(after) == 2


def test_operators_of_others() -> None:
    text = "(float[n,4] x) => (float[n,4] y) { h = MatMul(x, w) o = own.f(h) y = MatMul(h, w) }"
    proto = ir.to_proto(parse(text, w=normal(4, 4)).ir)
    proto.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, None))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    _, change = ToBfloat16().apply(Model(ir.from_proto(proto)))
    assert change.refusals == ("o: f has no bfloat16 form",)
    assert change.rewrites == 2
