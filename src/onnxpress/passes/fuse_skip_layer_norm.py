"""The residual sum before a layer normalisation, as part of it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shape_rules import Shape
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op, name_of

RANK = 3
OPERATORS = {
    "LayerNormalization": "SkipLayerNormalization",
    "RMSNormalization": "SkipSimplifiedLayerNormalization",
    "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
}
TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""What ONNX Runtime's kernels compute in."""


@dataclass(frozen=True)
class FuseSkipLayerNorm(Pass):
    """``LayerNormalization(x + b + r, γ, β)`` → ``SkipLayerNormalization(x, r, γ, β, b)``.

    Of ``RMSNormalization`` it is ``SkipSimplifiedLayerNormalization``, which has no β. For ONNX
    Runtime. x and r are [batch, length, size]; b is a constant [size], or not there. A sum that
    others read too, as in networks that normalise before each block, stays: ONNX Runtime leaves
    it alone as well, and its ``SkipLayerNormalization`` took three to six times as long as ``Add``
    and ``LayerNormalization`` (1.31, on one x86 machine). Of a sum that the norm alone reads it
    makes this very kernel while it loads the file.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes, rewrites = Shapes(model.ir), 0
        missed: list[Missed] = []
        for node in list(model.ir.graph):
            if not is_op(node, *OPERATORS) or _sum_before(node) is None:
                continue
            why = _fuse(node, shapes)
            if why:
                missed.append(_missed(node, why, shapes))
            else:
                rewrites += 1
        if rewrites:
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites, missed=tuple(missed))


def _sum_before(node: ir.Node) -> ir.Node | None:
    data = node.inputs[0]
    producer = None if data is None else data.producer()
    if producer is None or not is_op(producer, "Add"):
        return None
    return producer if all(constant(side) is None for side in producer.inputs) else None


def _missed(node: ir.Node, why: str, shapes: Shapes) -> Missed:
    """In the way is another reader of the sum, or what makes a summand of another shape."""
    added = _sum_before(node)
    assert added is not None
    total, shape = added.outputs[0], shapes.shape(added.outputs[0])
    blocking = next((name_of(user) for user, _ in total.uses() if user is not node), "")
    for side in added.inputs:
        maker = None if side is None else side.producer()
        if maker is not None and shapes.shape(side) != shape:
            blocking = name_of(maker)
    return Missed(OPERATORS[node.op_type], (name_of(node), name_of(added)), why, blocking)


def _why_not(node: ir.Node, added: ir.Node, shapes: Shapes) -> str:
    total, shape = added.outputs[0], shapes.shape(added.outputs[0])
    known = [shapes.shape(side) for side in added.inputs]
    if shape is None or len(shape) != RANK or known != [shape, shape]:
        return f"it is of {' and '.join(map(_told, known))}"
    if shapes.dtype(total) not in TYPES:
        return "there is no kernel for its type"
    if node.attributes.get_int("axis", -1) not in (-1, RANK - 1):
        return "it is not over the last dimension"
    factors = [value for value in node.inputs[1:3] if value is not None]
    if any(shapes.shape(value) != shape[-1:] for value in factors):
        return "its factors are not one for each of the last dimension"
    return _why_read(node, total)


def _why_read(node: ir.Node, total: ir.Value) -> str:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its mean or deviation is read"
    if len(total.uses()) > 1:
        return "others read the sum: left, since two kernels are faster then"
    return "the sum is an output of the model" if total.is_graph_output() else ""


def _fuse(node: ir.Node, shapes: Shapes) -> str:
    """The reason why not, or nothing."""
    added = _sum_before(node)
    assert added is not None
    why = _why_not(node, added, shapes)
    if why:
        return why
    one, two = added.inputs
    assert one is not None
    assert two is not None
    gamma, beta = [*node.inputs[1:3], None][:2]
    bias_node = None
    for data, other in ((one, two), (two, one)):
        found = _bias(data, shapes)
        if found is not None:
            bias_node, one, two = found, data, other
            break
    bias = None
    gone = [node, added]
    if bias_node is not None:
        side = 1 if constant(bias_node.inputs[1]) is not None else 0
        bias, inner = bias_node.inputs[side], bias_node.inputs[1 - side]
        assert inner is not None
        one = inner
        gone.append(bias_node)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    op = OPERATORS[node.op_type]
    factors = [gamma, beta] if op == "SkipLayerNormalization" else [gamma]
    fused = replace(
        node.outputs[0], op, [one, two, *factors, bias], {"epsilon": epsilon}, domain=CONTRIB,
        gone=gone,
    )  # fmt: skip
    shapes.learn(fused)
    return ""


def _bias(value: ir.Value, shapes: Shapes) -> ir.Node | None:
    """The node that adds a constant [size] to what nothing else reads and is as large."""
    node, shape = value.producer(), shapes.shape(value)
    if node is None or not is_op(node, "Add") or len(value.uses()) != 1 or shape is None:
        return None
    if value.is_graph_output():
        return None
    side = 1 if constant(node.inputs[1]) is not None else 0
    bias = constant(node.inputs[side])
    fits = bias is not None and bias.shape == shape[-1:]
    return node if fits and shapes.shape(node.inputs[1 - side]) == shape else None


def _told(shape: Shape | None) -> str:
    return "an unknown shape" if shape is None else str(list(shape))
