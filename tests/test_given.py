"""What callers may give for a model."""

from __future__ import annotations

import onnx_ir as ir
import pytest

import onnxpress
from onnxpress.errors import InputError
from zoo.graphs import parse

TEXT = "(float[n] x) => (float[n] y) { a = Identity(x) y = Relu(a) }"


def test_a_proto_is_a_model() -> None:
    proto = ir.to_proto(parse(TEXT).ir)
    before = proto.SerializeToString()
    result = onnxpress.optimize(proto)
    assert result.after.ops == {"Relu": 1}
    assert result.verified is not None
    assert result.verified.ok
    assert proto.SerializeToString() == before
    assert onnxpress.inspect(proto).nodes == 2
    assert onnxpress.check(proto).ok


@pytest.mark.parametrize("wrong", [3, None, b"bytes", [1]])
def test_anything_else_is_one_line(wrong: object) -> None:
    for verb in (onnxpress.optimize, onnxpress.inspect, onnxpress.check):
        with pytest.raises(InputError, match=r"a model of type \w+; expected an ONNX file"):
            verb(wrong)  # type: ignore[operator]
