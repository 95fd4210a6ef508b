"""Opset 18 models as opset 17: what onnx's version converter cannot do going down."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from onnxpress.errors import ModelError
from onnxpress.model import Model

REDUCTIONS = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSumSquare",
}  # fmt: skip
"""Their axes are an input since opset 18, as ReduceSum's are since 13."""

NEW_ATTRIBUTES = {
    "Pad": {},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": "stretch"},
    "ScatterElements": {},
    "ScatterND": {},
}
"""Operator → attributes that opset 18 brought, with the value that means what was before."""


def to_17(model: Model) -> Model:
    """A copy in opset 17. Raises ``ModelError`` that names the node that 17 cannot express."""
    clone = model.clone()
    for node in list(clone.nodes()):
        if node.domain not in ("", "ai.onnx"):
            continue
        _rewrite(node)
        schema = _schema(node)
        if schema is None:
            raise _refused(node, f"{node.op_type} came with opset 18")
        node.version = 17
    clone.ir.opset_imports[""] = 17
    return clone


def _rewrite(node: ir.Node) -> None:
    if node.op_type in REDUCTIONS:
        _axes(node)
    elif node.op_type == "Split" and "num_outputs" in node.attributes:
        axis = node.attributes.get_int("axis", 0)
        shape = None if node.inputs[0] is None else node.inputs[0].shape
        size = None if shape is None else shape[axis]
        if not isinstance(size, int) or size % len(node.outputs):
            raise _refused(node, "it splits unevenly, or a free dimension")
        node.attributes.pop("num_outputs")  # without sizes the parts are equal
    elif node.op_type in NEW_ATTRIBUTES:
        for name, old in NEW_ATTRIBUTES[node.op_type].items():
            attribute = node.attributes.get(name)
            if attribute is not None and attribute.value != old:
                raise _refused(node, f"it has {name} {attribute.value}")
            node.attributes.pop(name, None)
        reduction = node.attributes.get_string("reduction", "none")
        if reduction not in ("none", "add", "mul"):
            raise _refused(node, f"it has reduction {reduction}")
        if node.op_type == "Resize" and "axes" in node.attributes:
            raise _refused(node, "it has axes")
        if node.op_type == "Pad" and len(node.inputs) > 3 and node.inputs[3] is not None:
            raise _refused(node, "it has axes")


def _axes(node: ir.Node) -> None:
    """The axes from the second input, which must be constant, into the attribute."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    every = not node.attributes.get_int("noop_with_empty_axes", 0)
    node.attributes.pop("noop_with_empty_axes", None)
    if axes is None:
        if not every:
            raise _refused(node, "it reduces nothing")
        return
    constant = ir.convenience.get_const_tensor(axes)
    if constant is None:
        raise _refused(node, "its axes are not constant")
    values = [int(axis) for axis in np.asarray(constant.numpy()).reshape(-1)]
    if not values and not every:
        raise _refused(node, "it reduces nothing")
    node.resize_inputs(1)
    if values:
        node.attributes["axes"] = ir.AttrInt64s("axes", values)


def _schema(node: ir.Node) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, 17)
    except onnx.defs.SchemaError:
        return None


def _refused(node: ir.Node, why: str) -> ModelError:
    return ModelError(f"opset 17 cannot express node '{node.name}' ({node.op_type}): {why}")
