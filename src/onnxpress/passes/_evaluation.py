"""One node on known inputs: the arithmetic of constant folding, by ONNX's own reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxpress.values import STANDARD

RANDOM = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
QUANTISED = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
INEXACT = ("AveragePool", "GridSample", "RoiAlign")
"""Here the reference of onnx 1.23 departs from the outputs that its own test suite expects."""
GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
TENSORS = (np.ndarray, np.generic)
LONGEST_SHAPE = 64
"""Inputs of at most so many numbers may be shapes or counts: they decide how large outputs are."""
GROWING = (
    "BlackmanWindow", "CenterCropPad", "Col2Im", "HammingWindow", "HannWindow", "MaxUnpool",
    "MelWeightMatrix", "OneHot", "Range", "Resize", "Upsample",
)  # fmt: skip
"""Here numbers decide, too, and onnx's inference does not always read them."""


def is_foldable(node: ir.Node) -> bool:
    """Whether the outputs follow from the inputs alone and may become constants.

    Quantised constants stay as they are: engines look for these very nodes.
    """
    return (
        node.domain in STANDARD
        and node.op_type not in RANDOM + QUANTISED + INEXACT
        and not any(attr.is_ref() or attr.type in GRAPHS for attr in node.attributes.values())
    )


def output_bytes(
    node: ir.Node, inputs: Sequence[np.ndarray | None], opset: int
) -> int | float | None:
    """What the outputs of ``node`` would take; None where only computing them would tell.

    Infinite where they may be of any size, and it is not known of which.
    """
    found = _inferred_bytes(node, inputs, opset)
    if found is None and node.op_type == "Range":
        return _range_bytes(inputs)
    return math.inf if found is None and node.op_type in GROWING else found


def _range_bytes(inputs: Sequence[np.ndarray | None]) -> float:
    """Exporters write the numbers as [1], too, which onnx's inference refuses."""
    numbers = [float(array.flat[0]) for array in inputs if array is not None and array.size == 1]
    finite = len(numbers) == 3 and all(map(math.isfinite, numbers))
    if not finite or numbers[2] == 0 or inputs[0] is None:
        return math.inf
    start, limit, delta = numbers
    return max(0, math.ceil((limit - start) / delta)) * inputs[0].itemsize


def _inferred_bytes(node: ir.Node, inputs: Sequence[np.ndarray | None], opset: int) -> int | None:
    proto = _detached(node, inputs)
    types, data = {}, {}
    for name, array in _named(inputs).items():
        tensor = ir.tensor(array)
        types[name] = onnx.helper.make_tensor_type_proto(int(tensor.dtype), array.shape)
        if array.dtype.kind in "if" and array.size <= LONGEST_SHAPE:
            data[name] = ir.serde.serialize_tensor(tensor)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None
    total = 0
    for kind in found.values():
        tensor_type = kind.tensor_type
        if not tensor_type.HasField("shape") or not all(
            dim.HasField("dim_value") for dim in tensor_type.shape.dim
        ):
            return None
        size = math.prod(dim.dim_value for dim in tensor_type.shape.dim)
        total += math.ceil(size * ir.DataType(tensor_type.elem_type).itemsize)
    return total


def evaluate(
    node: ir.Node, inputs: Sequence[np.ndarray | None], opset: int
) -> list[np.ndarray] | str:
    """The outputs of ``node``, or the reason why there are none. Missing inputs are None."""
    proto = _detached(node, inputs)
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [onnx.helper.make_empty_tensor_value_info(name) for name in _named(inputs)],
        [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            outputs = ReferenceEvaluator(model).run(None, _named(inputs))
    except Exception as error:  # noqa: BLE001  # whatever a broken node raises, it is left alone
        return f"{node.op_type} of constants cannot be evaluated ({error})"
    arrays = [np.asarray(output) for output in outputs if isinstance(output, TENSORS)]
    if len(arrays) != len(node.outputs) or any(array.dtype.kind in "OSU" for array in arrays):
        return f"{node.op_type} of constants does not give tensors of numbers"
    return arrays


def _named(inputs: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    return {f"i{index}": array for index, array in enumerate(inputs) if array is not None}


def _detached(node: ir.Node, inputs: Sequence[np.ndarray | None]) -> onnx.NodeProto:
    """``node`` with the names that ``_named`` gives its inputs; outputs are ``o0``, ``o1``, …."""
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:]
    proto.input.extend("" if a is None else f"i{i}" for i, a in enumerate(inputs))
    proto.output.extend(f"o{i}" if value.name else "" for i, value in enumerate(node.outputs))
    proto.domain = ""
    return proto
