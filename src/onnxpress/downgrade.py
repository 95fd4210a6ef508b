"""Opset 20 as 19, and 18 as 17: the steps down that onnx's version converter lacks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from onnxpress.errors import ModelError
from onnxpress.model import Model
from onnxpress.values import Names

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


MORE_TYPES = {"ConstantOfShape", "IsInf", "IsNaN", "ReduceMax", "ReduceMin"}
"""Operators that take more types since opset 20, and are what they were for the others."""
GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""What GridSample's modes were called before opset 20."""


def to_19(model: Model) -> Model:
    """A copy in opset 19. Raises ``ModelError`` that names the node that 19 cannot express."""
    return _down(model, 19, _rewrite_20)


def to_17(model: Model) -> Model:
    """A copy in opset 17. Raises ``ModelError`` that names the node that 17 cannot express."""
    return _down(model, 17, _rewrite_18)


def _down(model: Model, to: int, rewrite: Callable[[ir.Node, Names], None]) -> Model:
    clone = model.inlined()
    names = Names(clone.ir)
    for node in list(clone.nodes()):
        if node.domain not in ("", "ai.onnx"):
            continue
        rewrite(node, names)
        if node.graph is not None and _schema(node, to) is None:
            raise _refused(node, to, f"{node.op_type} came with opset {to + 1}")
        node.version = to
    clone.ir.opset_imports[""] = to
    return clone


def _rewrite_20(node: ir.Node, names: Names) -> None:
    if node.op_type == "Gelu":
        _gelu(node, names)
    elif node.op_type == "GridSample":
        shape = None if node.inputs[0] is None else node.inputs[0].shape
        if shape is not None and len(shape) != 4:
            raise _refused(node, 19, f"it samples {len(shape)} dimensions")
        mode = node.attributes.get_string("mode", "linear")
        node.attributes["mode"] = ir.AttrString("mode", GRID_MODES.get(mode, mode))
    elif node.op_type not in MORE_TYPES and _since(node) == 20:
        raise _refused(node, 19, f"{node.op_type} is another one since opset 20")


def _gelu(node: ir.Node, names: Names) -> None:
    """``x · ½ · (1 + erf(x / √2))``, or with ``tanh(√(2/π) · (x + 0.044715 · x³))``: ONNX's own."""
    x, old = node.inputs[0], node.outputs[0]
    assert x is not None
    made: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value) -> ir.Value:
        made.append(ir.node(op, list(inputs), version=19))
        made[-1].outputs[0].type = x.type
        made[-1].outputs[0].name = names.fresh(f"{old.name}_{op}")
        return made[-1].outputs[0]

    def number(value: float) -> ir.Value:
        tensor = ir.tensor(np.array(value, np.float32))
        made.append(ir.node("Constant", [], {"value": tensor}, version=19))
        made[-1].outputs[0].name = names.fresh(f"{old.name}_number")
        return add("CastLike", made[-1].outputs[0], x)

    if node.attributes.get_string("approximate", "none") == "tanh":
        cube = add("Mul", add("Mul", x, x), add("Mul", x, number(0.044715)))
        inner = add("Tanh", add("Mul", add("Add", x, cube), number(math.sqrt(2 / math.pi))))
    else:
        inner = add("Erf", add("Mul", x, number(math.sqrt(0.5))))
    new = add("Mul", add("Mul", x, number(0.5)), add("Add", inner, number(1)))
    made[-1].name = node.name
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, made)
    new.type, new.shape = old.type, old.shape
    name, old.name = old.name, None
    new.name = name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _since(node: ir.Node) -> int:
    schema = _schema(node, 20)
    return 0 if schema is None else int(schema.since_version)


def _rewrite_18(node: ir.Node, _: Names) -> None:
    if node.op_type in REDUCTIONS:
        _axes(node)
    elif node.op_type == "Split" and "num_outputs" in node.attributes:
        axis = node.attributes.get_int("axis", 0)
        shape = None if node.inputs[0] is None else node.inputs[0].shape
        size = None if shape is None else shape[axis]
        if not isinstance(size, int) or size % len(node.outputs):
            raise _refused(node, 17, "it splits unevenly, or a free dimension")
        node.attributes.pop("num_outputs")  # without sizes the parts are equal
    elif node.op_type in NEW_ATTRIBUTES:
        for name, old in NEW_ATTRIBUTES[node.op_type].items():
            attribute = node.attributes.get(name)
            if attribute is not None and attribute.value != old:
                raise _refused(node, 17, f"it has {name} {attribute.value}")
            node.attributes.pop(name, None)
        reduction = node.attributes.get_string("reduction", "none")
        if reduction not in ("none", "add", "mul"):
            raise _refused(node, 17, f"it has reduction {reduction}")
        if node.op_type == "Resize" and "axes" in node.attributes:
            raise _refused(node, 17, "it has axes")
        if node.op_type == "Pad" and len(node.inputs) > 3 and node.inputs[3] is not None:
            raise _refused(node, 17, "it has axes")


def _axes(node: ir.Node) -> None:
    """The axes from the second input, which must be constant, into the attribute."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    every = not node.attributes.get_int("noop_with_empty_axes", 0)
    node.attributes.pop("noop_with_empty_axes", None)
    if axes is None:
        if not every:
            raise _refused(node, 17, "it reduces nothing")
        return
    constant = ir.convenience.get_const_tensor(axes)
    if constant is None:
        raise _refused(node, 17, "its axes are not constant")
    values = [int(axis) for axis in np.asarray(constant.numpy()).reshape(-1)]
    if not values and not every:
        raise _refused(node, 17, "it reduces nothing")
    node.resize_inputs(1)
    if values:
        node.attributes["axes"] = ir.AttrInt64s("axes", values)


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _refused(node: ir.Node, opset: int, why: str) -> ModelError:
    return ModelError(f"opset {opset} cannot express node '{node.name}' ({node.op_type}): {why}")
