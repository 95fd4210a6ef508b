"""Hand-written graphs: from text to a model, and what a model answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort

from onnxpress.model import Model
from onnxpress.recipe import Change, Pass

Array = np.ndarray


def parse(text: str, opset: int = 17, ir_version: int = 8, **initializers: Array) -> Model:
    """A model from ONNX's textual syntax, the header left out; constants as keywords."""
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}]>'
    proto = onnx.parser.parse_model(f"{header} graph {text}")
    for name, array in initializers.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return Model(ir.from_proto(proto))


def answers(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Every output, by ONNX Runtime without its own graph optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(serialized(model), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def serialized(model: Model) -> bytes:
    return ir.to_proto(model.ir).SerializeToString(deterministic=True)


def difference(expected: list[Array], got: list[Array]) -> float:
    """The largest difference of an output over its largest magnitude."""
    assert [array.shape for array in expected] == [array.shape for array in got]
    assert [array.dtype for array in expected] == [array.dtype for array in got]
    return max(
        float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(a).max(), 1e-30))
        for a, b in zip(expected, got, strict=True)
        if a.size
    )


def apply(
    step: Pass, model: Model, feeds: Mapping[str, Array] | None = None
) -> tuple[Model, Change]:
    """``step.apply(model)``, with all that must hold of any exact pass checked on the way."""
    before = serialized(model)
    after, change = step.apply(model)
    assert serialized(model) == before
    assert step.apply(after)[1].rewrites == 0
    if change.changed:
        onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
        assert after.signature == model.signature
        assert serialized(after) != before
    else:
        assert after is model
    if feeds is not None:
        assert difference(answers(model, feeds), answers(after, feeds)) <= step.rtol
    return after, change
