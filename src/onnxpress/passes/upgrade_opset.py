"""A newer opset, for what older ones cannot say."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir
from onnx.version_converter import ConvertError

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import opset

PROTOBUF_BYTES = 1 << 31
"""The converter takes the model as one protobuf message."""

REFUSALS = (
    RuntimeError,
    ConvertError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
)
"""What the converter and the checker raise on a model that they cannot take."""

IR_VERSION = 8
"""The least that opset 17 may be saved with."""


@dataclass(frozen=True)
class UpgradeOpset(Pass):
    """``model`` in the standard opset ``n < to`` → the same model in opset ``to``.

    By onnx's version converter, which follows each operator's specification. Per-channel
    quantisation needs 13. A model in a newer opset stays as it is.
    """

    to: int = 17

    def rewrite(self, model: Model, facts: Facts) -> Change:
        now = opset(model.ir)
        if not 0 < now < self.to:
            return Change()
        if model.size_bytes >= PROTOBUF_BYTES:
            return Change(0, ("the model is larger than onnx's version converter takes",))
        before, proto = model.signature, ir.to_proto(model.ir)
        # Before 4, initializers had to be inputs too; many files do not keep to that.
        proto.ir_version = max(proto.ir_version, IR_VERSION)
        try:
            upgraded = onnx.version_converter.convert_version(proto, self.to)
            converted = Model(ir.from_proto(upgraded))
            # The converter gives names to nameless dimensions.
            for kind in ("inputs", "outputs"):
                old, new = getattr(model.ir.graph, kind), getattr(converted.ir.graph, kind)
                shapes = {value.name: value.shape for value in old}
                for value in new:
                    value.shape = shapes.get(value.name, value.shape)
            onnx.checker.check_model(ir.to_proto(converted.ir), full_check=True)
        except REFUSALS as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            return Change(0, (f"opset {now} cannot be upgraded to {self.to}: {told}",))
        if converted.signature != before:
            return Change(0, (f"upgrading opset {now} to {self.to} changes the signature",))
        converted.ir.metadata_props.update(model.ir.metadata_props)
        model.ir = converted.ir
        return Change(1)
