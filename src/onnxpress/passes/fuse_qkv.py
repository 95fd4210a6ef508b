"""The projections to queries, keys and values inside the attention that they are for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._heads import Refusal
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.values import Names, add_initializer, constant, drop_unused, is_op, name_of

PARTS = 3
BIAS, KEYS, ADDED = 3, 4, 5
"""Inputs of MultiHeadAttention: what is added to its first three, [batch, keys], to the scores."""


@dataclass(frozen=True)
class FuseQkv(Pass):
    """``MultiHeadAttention(x Q + q, x K + k, x V + v, m)`` → ``Attention(x, [Q K V], [q k v], m)``.

    For ONNX Runtime; the same where one product ``x [Q K V] + [q k v]`` is split into three. A
    scale of the scores that is not the usual one becomes a part of Q and q: OpenVINO reads none.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        names = Names(model.ir)
        missed, rewrites = [], 0
        for node in list(model.ir.graph):
            if node.domain != CONTRIB or node.op_type != "MultiHeadAttention":
                continue
            try:
                _fuse(node, names)
                rewrites += 1
            except Refusal as refusal:
                kind, place = "Attention with its projections", (name_of(node),)
                missed.append(Missed(kind, place, str(refusal), refusal.blocking))
        return Change(rewrites, missed=tuple(missed))


@dataclass(frozen=True)
class _Linear:
    """``source · weight + bias``, and its nodes from the last."""

    source: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    nodes: tuple[ir.Node, ...]


def _fuse(node: ir.Node, names: Names) -> None:
    given = [*node.inputs, *[None] * (ADDED + 1 - len(node.inputs))]
    if given[BIAS] is not None or any(value is not None for value in given[ADDED + 1 :]):
        raise Refusal("it has a bias or a past of its own")
    sides = [value for value in node.inputs[:PARTS] if value is not None]
    assert node.graph is not None
    split = _split(sides)
    if split is not None:
        whole, nodes = split
        source, weight = whole.source, whole.weight
        bias = _bias(node.graph, names, [whole])
        sizes = {constant(weight).shape[1] // PARTS}  # type: ignore[union-attr]  # _linear
    else:
        linears = [_linear(value) for value in sides]
        if len({linear.source for linear in linears}) != 1:
            raise Refusal("they are not of one tensor")
        source = linears[0].source
        arrays = [constant(linear.weight) for linear in linears]
        sizes = {array.shape[1] for array in arrays if array is not None}
        weight = _joined(node.graph, names, [linear.weight for linear in linears], arrays, axis=1)
        bias, nodes = _bias(node.graph, names, linears), tuple(n for x in linears for n in x.nodes)
    if len(sizes) != 1:
        raise Refusal("they differ in size")
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    read = [value for inner in nodes for value in inner.inputs]
    (size,) = sizes
    factor = attributes.pop("scale", 0.0) * math.sqrt(size / attributes["num_heads"])
    if factor and not math.isclose(factor, 1, rel_tol=1e-6):
        read += [weight, bias]
        weight, bias = (_scaled(node.graph, names, one, size, factor) for one in (weight, bias))
    inputs = [source, weight, bias, given[KEYS], None, given[ADDED]]
    gone = [node, *nodes]
    replace(node.outputs[0], "Attention", inputs, attributes, domain=CONTRIB, gone=gone)
    drop_unused(read)


def _scaled(graph: ir.Graph, names: Names, value: ir.Value, size: int, factor: float) -> ir.Value:
    """``value`` with the queries' columns, the first ``size`` ones, times ``factor``."""
    array = constant(value)
    assert array is not None
    array = array.copy()
    array[..., :size] *= array.dtype.type(factor)
    name = names.fresh(f"{value.name}_scaled")
    return add_initializer(graph, name, ir.tensor(array, name=name))


def _linear(value: ir.Value) -> _Linear:
    nodes, bias = [], None
    node = value.producer()
    if len(value.uses()) != 1:
        raise Refusal("another node reads one of them", node)
    if node is not None and is_op(node, "Add"):
        side = 1 if constant(node.inputs[1]) is not None else 0
        bias, data = node.inputs[side], node.inputs[1 - side]
        array = constant(bias)
        if array is None or array.ndim != 1 or data is None or len(data.uses()) != 1:
            raise Refusal("what is added to one of them is no constant of one dimension", node)
        nodes.append(node)
        node = data.producer()
    weight = None if node is None or len(node.inputs) < 2 else constant(node.inputs[1])
    if node is None or not is_op(node, "MatMul") or weight is None or weight.ndim != 2:
        raise Refusal("one of them is not a product with a constant", node)
    added = constant(bias)
    if added is not None and added.size not in (1, weight.shape[1]):
        raise Refusal("what is added to one of them makes it grow")
    source = node.inputs[0]
    assert source is not None
    assert node.inputs[1] is not None
    return _Linear(source, node.inputs[1], bias, (*nodes, node))


def _split(sides: list[ir.Value]) -> tuple[_Linear, tuple[ir.Node, ...]] | None:
    """The product that is split into three equal parts, in their order."""
    node = sides[0].producer()
    if node is None or not is_op(node, "Split") or list(node.outputs) != sides:
        return None
    if any(len(value.uses()) != 1 for value in sides) or node.inputs[0] is None:
        return None
    lengths = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if lengths is not None and len(set(lengths.tolist())) != 1:
        raise Refusal("its parts differ in size", node)
    if node.attributes.get_int("axis", 0) not in (-1, 2):
        raise Refusal("they are split along another dimension", node)
    whole = _linear(node.inputs[0])
    return whole, (node, *whole.nodes)


def _bias(graph: ir.Graph, names: Names, linears: list[_Linear]) -> ir.Value:
    """One number per column; zeros where there is no bias, since ONNX Runtime 1.31 dies of that."""
    arrays: list[np.ndarray | None] = []
    for linear in linears:
        weight, bias = constant(linear.weight), constant(linear.bias)
        assert weight is not None
        given = np.zeros(1, weight.dtype) if bias is None else bias
        arrays.append(np.broadcast_to(given, weight.shape[1]))
    return _joined(graph, names, [linear.weight for linear in linears], arrays, axis=0)


def _joined(
    graph: ir.Graph,
    names: Names,
    values: list[ir.Value],
    arrays: list[np.ndarray | None],
    axis: int,
) -> ir.Value:
    known = [array for array in arrays if array is not None]
    name = names.fresh(f"{values[0].name}_{'weight' if axis else 'bias'}")
    return add_initializer(graph, name, ir.tensor(np.concatenate(known, axis=axis), name=name))
