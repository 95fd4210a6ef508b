"""The residual sum before a layer normalisation, as part of it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import CONTRIB, replace, take
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, constant, is_op, name_of

RANK = 3


@dataclass(frozen=True)
class FuseSkipLayerNorm(Pass):
    """``LayerNormalization(x + b + r, γ, β)`` → ``SkipLayerNormalization(x, r, γ, β, b)``.

    For ONNX Runtime. x and r are [batch, length, size]; b is a constant [size], or not there. A
    sum that others read too is the operator's fourth output.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes, names = Shapes(model.ir), Names(model.ir)
        missed, rewrites = [], 0
        for node in list(model.ir.graph):
            if not is_op(node, "LayerNormalization") or _sum_before(node) is None:
                continue
            why = _fuse(node, shapes, names)
            if why:
                missed.append(Missed("SkipLayerNormalization", _nodes(node), why))
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


def _nodes(node: ir.Node) -> tuple[str, ...]:
    added = _sum_before(node)
    return (name_of(node),) if added is None else (name_of(node), name_of(added))


def _fuse(node: ir.Node, shapes: Shapes, names: Names) -> str:
    """The reason why not, or nothing."""
    added = _sum_before(node)
    assert added is not None
    one, two = added.inputs
    assert one is not None
    assert two is not None
    total, shape = added.outputs[0], shapes.shape(added.outputs[0])
    if shape is None or len(shape) != RANK or shapes.shape(one) != shape:
        return f"it is of {_told(shapes, one)} and {_told(shapes, two)}"
    if shapes.shape(two) != shape:
        return f"it is of {_told(shapes, one)} and {_told(shapes, two)}"
    if node.attributes.get_int("axis", -1) not in (-1, RANK - 1):
        return "it is not over the last dimension"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its mean or deviation is read"
    gamma = node.inputs[1]
    beta = node.inputs[2] if len(node.inputs) > 2 else None
    if total.is_graph_output():
        return "the sum is an output of the model"
    bias_node = None
    for data, other in ((one, two), (two, one)):
        found = _bias(data)
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
    shared = len(total.uses()) > 1
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    fused = replace(
        node.outputs[0], "SkipLayerNormalization", [one, two, gamma, beta, bias],
        {"epsilon": epsilon}, domain=CONTRIB, gone=[node] if shared else gone,
    )  # fmt: skip
    if shared:
        fused.resize_outputs(4)
        for index in (1, 2):
            fused.outputs[index].name = ""
        take(total, fused.outputs[3])
        for old in gone[1:]:
            if not any(value.uses() for value in old.outputs) and old.graph is not None:
                old.graph.remove(old, safe=True)
    shapes.learn(fused)
    return ""


def _bias(value: ir.Value) -> ir.Node | None:
    """The node that adds a constant [size] to what nothing else reads."""
    node = value.producer()
    if node is None or not is_op(node, "Add") or len(value.uses()) != 1:
        return None
    arrays = [constant(side) for side in node.inputs]
    return node if any(array is not None and array.ndim == 1 for array in arrays) else None


def _told(shapes: Shapes, value: ir.Value) -> str:
    shape = shapes.shape(value)
    return "an unknown shape" if shape is None else str(list(shape))
