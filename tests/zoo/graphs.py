"""Hand-written graphs: from text to a model, and what a model answers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.model import Model
from onnxpress.recipe import Change, Pass
from onnxpress.settings import Settings

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


def openvino_answers(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Every output, by OpenVINO."""
    engine = registry.create(Engine, "engines", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        path = model.clone().save(Path(folder) / "model.onnx")
        with engine.open(path, Settings("openvino", threads=1)) as session:
            outputs = session.run(dict(feeds))
    return [outputs[str(value.name)] for value in model.ir.graph.outputs]


def serialized(model: Model) -> bytes:
    return ir.to_proto(model.ir).SerializeToString(deterministic=True)


def difference(expected: list[Array], got: list[Array]) -> float:
    """The largest difference of an output over its largest magnitude."""
    assert [array.shape for array in expected] == [array.shape for array in got]
    assert [array.dtype for array in expected] == [array.dtype for array in got]
    return max(
        float(np.abs(a.astype(np.float64) - b).max()) / max(float(np.abs(a).max()), 1e-30)
        for a, b in zip(expected, got, strict=True)
        if a.size
    )


def apply(
    step: Pass, model: Model, feeds: Mapping[str, Array] | None = None, known: bool = True
) -> tuple[Model, Change]:
    """``step.apply(model)``, with all that must hold of any exact pass checked on the way.

    Operators that onnx does not know, ``known`` = False, run in both engines.
    """
    before = serialized(model)
    after, change = step.apply(model)
    assert serialized(model) == before
    assert step.apply(after)[1].rewrites == 0
    if change.changed and known:
        onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    assert (after is model) == (not change.changed)
    if change.changed:
        assert after.signature == model.signature
        assert serialized(after) != before
    if feeds is not None:
        expected = answers(model, feeds)
        assert difference(expected, answers(after, feeds)) <= step.rtol
        if not known:
            assert difference(expected, openvino_answers(after, feeds)) <= step.rtol
    return after, change
