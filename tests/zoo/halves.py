"""What must hold of any model in half precision, on both engines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes.to_float16 import ToFloat16
from onnxpress.recipe import Change, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import all_values
from onnxpress.verbs.calibrate import gather
from zoo.graphs import Array, answers, openvino_answers, serialized

Feeds = Mapping[str, Array]
HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def narrowed(source: Model, *feeds: Feeds, step: Pass | None = None) -> tuple[Model, Change]:
    """The model in half precision, with all that must hold of any such model checked."""
    step = ToFloat16() if step is None else step
    before = serialized(source)
    after, change = step.apply(source, gather(step, source, lambda: list(feeds)))
    assert serialized(source) == before
    if change.changed:
        onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
        again, second = step.apply(after)
        assert again is after
        assert not second.changed
        check_casts(after)
        if step.keeps_signature:
            assert after.signature == source.signature
    return after, change


def check_casts(model: Model) -> None:
    """No Cast there and back, none twice, none into what nothing reads."""
    casts = [node for node in model.nodes() if node.op_type == "Cast"]
    seen = [(node.inputs[0], node.attributes["to"].as_int()) for node in casts]
    assert len(set(seen)) == len(seen)
    for cast in casts:
        output, producer = cast.outputs[0], cast.inputs[0].producer()  # type: ignore[union-attr]
        assert output.uses() or output.is_graph_output()
        assert producer is None or producer.op_type != "Cast" or producer.inputs[0].dtype != FLOAT  # type: ignore[union-attr]


def both(model: Model, feeds: Feeds) -> list[list[Array]]:
    return [answers(model, feeds), openvino_answers(model, feeds)]


def engines(model: Model, feeds: Feeds) -> list[list[Array]]:
    """Of bfloat16 ONNX Runtime's CPU provider runs next to nothing."""
    return [openvino_answers(model, feeds)] if is_bfloat16(model) else both(model, feeds)


def is_bfloat16(model: Model) -> bool:
    return any(value.dtype == ir.DataType.BFLOAT16 for value in all_values(model.ir.graphs()))


def close(source: Model, after: Model, feeds: Feeds, share: float = 4e-3) -> None:
    expected = answers(source, feeds)
    share *= 8 if is_bfloat16(after) else 1
    for got in engines(after, feeds):
        for a, b in zip(expected, got, strict=True):
            assert np.isfinite(b).all()
            np.testing.assert_allclose(b, a, atol=share * float(np.abs(a).max()), rtol=0)


def types(model: Model, op: str) -> list[ir.DataType | None]:
    """The type of what each ``op`` makes."""
    shapes = Shapes(model.ir)
    return [shapes.dtype(node.outputs[0]) for node in model.nodes() if node.op_type == op]


def casts(model: Model) -> int:
    return model.op_counts().get("Cast", 0)


TWO = "(float[n,4] x) => (float[n,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
"""Two products with a Relu between them."""
