"""The projections to queries, keys and values inside the attention that they are for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._heads import Refusal
from onnxpress.passes._projections import Part, Parts
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, drop_unused, name_of

PARTS = 3
BIAS, KEYS, ADDED = 3, 4, 5
"""Inputs of MultiHeadAttention: what is added to its first three, [batch, keys], to the scores."""


@dataclass(frozen=True)
class FuseQkv(Pass):
    """``MultiHeadAttention(x Q + q, x K + k, x V + v, m)`` → ``Attention(x, [Q K V], [q k v], m)``.

    For ONNX Runtime; the same where the three are parts of one product ``x [Q K V] + [q k v]``,
    however its columns are reshaped, transposed and selected. A scale of the scores that is not
    the usual one becomes a part of Q and q: OpenVINO reads none.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        missed, rewrites = [], 0
        for node in list(model.ir.graph):
            if node.domain != CONTRIB or node.op_type != "MultiHeadAttention":
                continue
            try:
                _fuse(node, work)
                rewrites += 1
            except Refusal as refusal:
                kind, place = "Attention with its projections", (name_of(node),)
                missed.append(Missed(kind, place, str(refusal), refusal.blocking))
        return Change(rewrites, missed=tuple(missed))


def _fuse(node: ir.Node, work: _Work) -> None:
    given = [*node.inputs, *[None] * (ADDED + 1 - len(node.inputs))]
    if given[BIAS] is not None or any(value is not None for value in given[ADDED + 1 :]):
        raise Refusal("it has a bias or a past of its own")
    sides = [value for value in node.inputs[:PARTS] if value is not None]
    assert node.graph is not None
    if len(set(sides)) != PARTS:
        raise Refusal("another node reads one of them", node)
    parts = [work.parts.of(value) for value in sides]
    gone = list(dict.fromkeys(inner for part in parts for inner in part.nodes))
    for inner in gone:
        users = {user for value in inner.outputs for user, _ in value.uses()}
        others = users - {node, *gone}
        if others or any(value.is_graph_output() for value in inner.outputs):
            raise Refusal("another node reads one of them", next(iter(others), inner))
    if len({(part.source, part.turned) for part in parts}) != 1:
        raise Refusal("they are not of one tensor", parts[-1].nodes[-1])
    if len({len(part.columns) for part in parts}) != 1:
        raise Refusal("they differ in size", node)
    source, size = parts[0].source, len(parts[0].columns)
    weight, bias = work.joined(parts, node.graph)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    read = [value for inner in gone for value in inner.inputs]
    factor = attributes.pop("scale", 0.0) * math.sqrt(size / attributes["num_heads"])
    if factor and not math.isclose(factor, 1, rel_tol=1e-6):
        read += [weight, bias]
        weight, bias = (
            _scaled(node.graph, work.names, one, size, factor) for one in (weight, bias)
        )
    if parts[0].turned:
        source = work.turned(source, node)
    inputs = [source, weight, bias, given[KEYS], None, given[ADDED]]
    replace(node.outputs[0], "Attention", inputs, attributes, domain=CONTRIB, gone=[node, *gone])
    drop_unused(read)


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self.names, self._shapes = Names(model), Shapes(model)
        self.parts = Parts(self._shapes)

    def turned(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """[length, batch, size] as [batch, length, size]."""
        node = ir.node("Transpose", [value], {"perm": (1, 0, 2)})
        node.outputs[0].name = node.name = self.names.fresh(f"{value.name}_turned")
        node.outputs[0].type = value.type
        before.prepend(inherit(node, before))
        self._shapes.learn(node)
        return node.outputs[0]

    def joined(self, parts: list[Part], graph: ir.Graph) -> tuple[ir.Value, ir.Value]:
        """The weight and the bias of all columns, side by side.

        Without a bias it is zeros, since ONNX Runtime 1.31 dies of none.
        """
        weights, biases = [], []
        for part in parts:
            weight, bias = constant(part.weight), constant(part.bias)
            assert weight is not None
            given = np.zeros(1, weight.dtype) if bias is None else bias
            weights.append(weight[:, part.columns])
            biases.append(np.broadcast_to(given, weight.shape[1])[part.columns])
        first = parts[0]
        whole = np.concatenate([part.columns for part in parts])
        kept = constant(first.weight)
        assert kept is not None
        if len({part.weight for part in parts}) == 1 and np.array_equal(
            whole, np.arange(kept.shape[1])
        ):
            weight_value = first.weight
        else:
            weight_value = self._constant(graph, weights, f"{first.weight.name}_weight")
        return weight_value, self._constant(graph, biases, f"{first.weight.name}_bias")

    def _constant(self, graph: ir.Graph, arrays: list[np.ndarray], stem: str) -> ir.Value:
        name = self.names.fresh(stem)
        return add_initializer(graph, name, ir.tensor(np.concatenate(arrays, axis=-1), name=name))


def _scaled(graph: ir.Graph, names: Names, value: ir.Value, size: int, factor: float) -> ir.Value:
    """``value`` with the queries' columns, the first ``size`` ones, times ``factor``."""
    array = constant(value)
    assert array is not None
    array = array.copy()
    array[..., :size] *= array.dtype.type(factor)
    name = names.fresh(f"{value.name}_scaled")
    return add_initializer(graph, name, ir.tensor(array, name=name))
