"""Multiply-accumulates of a graph's linear operators, from inferred shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpress.model import Model

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger")


def macs_per_node(model: Model, free: int = 1) -> dict[str, int]:
    """Node name → MACs of Conv, ConvTranspose, Gemm and MatMul (their QDQ forms included).

    Free dimensions of the inputs count as ``free``; nodes whose shapes stay unknown are left out.
    Subgraphs are left out too, since how often they run is unknown.
    """
    fixed = model.clone()
    for value in fixed.ir.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else free for d in value.shape])
    for node in fixed.ir.graph:
        for value in node.outputs:
            value.shape = None
    passes.ShapeInferencePass(data_prop=True)(fixed.ir)
    found = {}
    for index, node in enumerate(fixed.ir.graph):
        macs = _macs(node)
        if macs is not None:
            found[node.name or f"node {index}"] = macs
    return found


def _macs(node: ir.Node) -> int | None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in LINEAR:
        return None
    left, right, out = (_dims(v) for v in (*node.inputs[:2], node.outputs[0]))
    if left is None or right is None or out is None:
        return None
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0
    return math.prod(out) * (left[0] if transposed else left[-1])


def _dims(value: ir.Value | None) -> Sequence[int] | None:
    if value is None or value.shape is None:
        return None
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    return dims if len(dims) == len(value.shape) else None
