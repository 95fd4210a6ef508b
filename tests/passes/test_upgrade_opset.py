"""Old opsets become new ones, or the refusal says why not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.model import Model
from onnxpress.passes.upgrade_opset import UpgradeOpset


def old_model(opset: int = 9, ir_version: int = 3) -> onnx.ModelProto:
    """Opset 9 writes axes as attributes; initializers are no inputs, as in many files."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("ReduceMean", ["y"], ["m"], axes=[2, 3], keepdims=1),
            helper.make_node("Squeeze", ["m"], ["out"], axes=[2, 3]),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    return model


def test_upgrades_and_keeps_the_answers() -> None:
    proto = old_model()
    model = Model(ir.from_proto(proto))
    model.metadata["author"] = "somebody"
    upgraded, change = UpgradeOpset().apply(model)
    assert change.changed
    assert upgraded.ir.opset_imports[""] == 17
    assert upgraded.metadata["author"] == "somebody"
    assert upgraded.journal.entries[-1].step == "upgrade_opset"
    assert model.ir.opset_imports[""] == 9
    proto.ir_version = 8
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    one, two = (
        onnxruntime.InferenceSession(
            file.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, {"x": x})[0]
        for file in (proto, ir.to_proto(upgraded.ir))
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_a_newer_model_stays() -> None:
    model = Model(ir.from_proto(old_model(13, 8)))
    same, change = UpgradeOpset(to=13).apply(model)
    assert same is model
    assert not change.changed


def test_what_the_converter_cannot_do_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> onnx.ModelProto:
        raise RuntimeError("No Adapter From Version 9 for Upsample\nmore")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    model = Model(ir.from_proto(old_model()))
    same, change = UpgradeOpset().apply(model)
    assert same is model
    assert change.refusals == (
        "opset 9 cannot be upgraded to 17: No Adapter From Version 9 for Upsample",
    )
