"""What is computed twice is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._evaluation import RANDOM
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import STANDARD, discard, drop_unused, subgraphs

COMMUTATIVE = ("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Mul", "Or", "Xor")
PROBED = 16
"""Of large constants this many elements tell apart most that differ, before all are compared."""


@dataclass(frozen=True)
class EliminateCommon(Pass):
    """``(f(x), f(x))`` → ``y = f(x); (y, y)``, and one initializer for equal ones.

    Nodes are common where operator, attributes and inputs are; those that draw random numbers or
    carry graphs are not. Each graph and subgraph is looked at by itself.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        for graph in model.ir.graphs():
            rewrites += _constants(graph) + _nodes(graph)
        return Change(rewrites)


def _nodes(graph: ir.Graph) -> int:
    first: dict[Hashable, ir.Node] = {}
    rewrites = 0
    for node in list(graph):
        key = _key(node)
        if key is None or any(value.is_graph_output() for value in node.outputs):
            continue
        known = first.setdefault(key, node)
        if known is node:
            continue
        for mine, theirs in zip(node.outputs, known.outputs, strict=True):
            mine.replace_all_uses_with(theirs)
        discard(node)
        rewrites += 1
    return rewrites


def _key(node: ir.Node) -> Hashable | None:
    if node.op_type in RANDOM or any(True for _ in subgraphs(node)):
        return None
    inputs: list[ir.Value | None] = list(node.inputs)
    if node.domain in STANDARD and node.op_type in COMMUTATIVE:
        inputs.sort(key=id)
    attributes = tuple(
        (name, ir.serde.serialize_attribute(attribute).SerializeToString(deterministic=True))
        for name, attribute in sorted(node.attributes.items())
    )
    names = tuple(bool(value.name) for value in node.outputs)
    return (*node.op_identifier(), tuple(map(id, inputs)), attributes, names)


def _constants(graph: ir.Graph) -> int:
    first: dict[Hashable, list[ir.Value]] = {}
    rewrites = 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or value.is_graph_output():
            continue
        if tensor.dtype == ir.DataType.STRING:
            continue
        alike = first.setdefault(_probe(tensor), [])
        known = next((one for one in alike if _equal(one, tensor)), None)
        if known is None:
            alike.append(value)
            continue
        value.replace_all_uses_with(known)
        rewrites += drop_unused([value])
    return rewrites


def _probe(tensor: ir.TensorProtocol) -> Hashable:
    flat = tensor.numpy().reshape(-1)
    few = flat[:: max(1, flat.size // PROBED)]
    return tensor.dtype, tuple(tensor.shape.numpy()), few.tobytes()


def _equal(value: ir.Value, tensor: ir.TensorProtocol) -> bool:
    """Bit by bit: -0.0 is not 0.0, and a NaN is itself."""
    assert value.const_value is not None
    one, two = (np.ascontiguousarray(t.numpy()).reshape(-1) for t in (value.const_value, tensor))
    return one is two or all(
        a.tobytes() == b.tobytes() for a, b in zip(_blocks(one), _blocks(two), strict=True)
    )


def _blocks(flat: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, flat.size, 1 << 20):
        yield flat[start : start + (1 << 20)]
