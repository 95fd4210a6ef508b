"""A product of matrices and the bias behind it, as one operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op, name_of, opset

BIAS_OPSET = 11
"""The first opset whose Gemm need not have a bias, and broadcasts as NumPy does."""
FLOATS = (ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class FuseGemm(Pass):
    """``x W + b`` → ``Gemm(x, W, b)``, where x and W are matrices and b is a constant.

    ONNX Runtime does the same as it loads; other engines and quantisers need not. A product of
    more dimensions stays: Gemm would need reshapes around it, and attention is told by its MatMul.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < BIAS_OPSET:
            return Change()
        shapes = Shapes(model.ir)
        missed, rewrites = [], 0
        for graph in model.ir.graphs():
            for node in list(graph):
                side = _bias(node)
                product = None if side is None else _product(node.inputs[1 - side])
                if side is None or product is None or not _are_matrices(product, shapes):
                    continue
                why, blocking = _refusal(node, product, side, shapes)
                if why:
                    names = (name_of(node), name_of(product))
                    missed.append(Missed("Gemm", names, why, blocking))
                    continue
                inputs = [*product.inputs, node.inputs[side]]
                replace(node.outputs[0], "Gemm", inputs, gone=[node, product])
                rewrites += 1
        return Change(rewrites, missed=tuple(missed))


def _bias(node: ir.Node) -> int | None:
    """Which operand of an Add is constant."""
    if not is_op(node, "Add"):
        return None
    return next((side for side in (1, 0) if constant(node.inputs[side]) is not None), None)


def _product(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and is_op(node, "MatMul") else None


def _are_matrices(product: ir.Node, shapes: Shapes) -> bool:
    found = [shapes.shape(value) for value in product.inputs]
    return all(shape is not None and len(shape) == 2 for shape in found)


def _refusal(node: ir.Node, product: ir.Node, side: int, shapes: Shapes) -> tuple[str, str]:
    """Why not, and the node that is in the way; nothing where there is no reason."""
    data, bias = product.outputs[0], constant(node.inputs[side])
    others = [user for user, _ in data.uses() if user is not node]
    assert bias is not None
    if others or data.is_graph_output():
        other = others[0] if others else product
        return "another node reads the product", name_of(other)
    if node.graph is not product.graph:
        return "it is in another graph", name_of(product)
    if shapes.dtype(data) not in FLOATS:
        return f"Gemm is not for {shapes.dtype(data)}", ""
    shape = shapes.shape(data)
    columns = None if shape is None else shape[1]
    if (
        bias.ndim > 2
        or bias.shape[-1:] not in ((), (1,), (columns,))
        or bias.size not in (1, columns)
    ):
        return f"a constant of shape {list(bias.shape)} is no bias of {columns} columns", ""
    return "", ""
