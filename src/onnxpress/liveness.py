"""How much memory the tensors between a graph's nodes need, from sizes alone.

Nodes run in the order of the file. A tensor takes its bytes from the node that makes it to the
last one that reads it; inputs from the beginning, outputs to the end. Reshapes take none: they
share what they read. Nothing else is done in place, and no nodes are fused. Weights, what is
computed of weights alone, and what kernels need for themselves do not count. Engines come out
below this where they fuse or reuse, and above it where they pack or pad.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.shapes import Shapes
from onnxpress.values import is_op, subgraphs
from onnxpress.views import RESHAPES

BITS = 8


@dataclass(frozen=True)
class Peak:
    """The most bytes at once, and the node that runs then; None for a graph without nodes.

    ``unknown`` counts the tensors whose sizes are not known: the peak is at least ``bytes``.
    """

    bytes: int
    node: ir.Node | None
    unknown: int


def value_bytes(value: ir.Value | None, shapes: Shapes) -> int | None:
    """The bytes of a tensor; None where they are not known (strings, sequences, free sizes)."""
    shape, dtype = shapes.shape(value), shapes.dtype(value)
    if shape is None or dtype in (None, ir.DataType.UNDEFINED, ir.DataType.STRING):
        return None
    dims = [dim for dim in shape if isinstance(dim, int) and dim >= 0]
    if len(dims) != len(shape) or dtype is None:
        return None
    return -(-math.prod(dims) * dtype.bitwidth // BITS)


def fixed_values(graph: ir.Graph) -> set[ir.Value]:
    """Weights and what is computed of weights alone, in the graphs inside ``graph``, too."""
    found: set[ir.Value] = set()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        read = [value for value in node.inputs if value is not None]
        found.update(v for v in read if v.is_initializer() and not v.is_graph_input())
        fixed = is_op(node, "Constant") or (read and found.issuperset(read))
        if fixed and not any(subgraphs(node)):
            found.update(node.outputs)
    return found


def made_bytes(node: ir.Node, shapes: Shapes, fixed: Container[ir.Value] = ()) -> int:
    """The bytes of the outputs that ``node`` has, of known sizes and not ``fixed``."""
    made = (value for value in node.outputs if value.name and value not in fixed)
    found = (value_bytes(value, shapes) for value in made)
    return sum(size for size in found if size is not None)


def peak(graph: ir.Graph, shapes: Shapes) -> Peak:
    """The peak of ``graph``, with the graphs inside it."""
    return _Walk(shapes, fixed_values(graph)).graph(graph, 0)


class _Walk:
    def __init__(self, shapes: Shapes, fixed: set[ir.Value]) -> None:
        self._shapes, self._fixed = shapes, fixed
        self._unknown: set[ir.Value] = set()
        self._owner: dict[ir.Value, ir.Value] = {}

    def graph(self, graph: ir.Graph, held: int) -> Peak:
        """``held`` bytes are alive around it all the time."""
        nodes = list(graph)
        last: dict[ir.Value, int] = {}
        for index, node in enumerate(nodes):
            self._note(node)
            for value in node.outputs:
                last.setdefault(self._root(value), index)
            for value in _read(node):
                last[self._root(value)] = index
        for value in graph.outputs:
            last[self._root(value)] = len(nodes)
        ending: dict[int, list[ir.Value]] = {}
        for value, index in last.items():
            ending.setdefault(index, []).append(value)
        alive = {value: self._bytes(value) for value in graph.inputs if not value.is_initializer()}
        total = held + sum(alive.values())
        most, place = total, nodes[0] if nodes else None
        for index, node in enumerate(nodes):
            for value in node.outputs:
                if self._root(value) is value and value not in self._fixed:
                    alive[value] = self._bytes(value)
                    total += alive[value]
            if total > most:
                most, place = total, node
            for inner in subgraphs(node):
                found = self.graph(inner, total)
                if found.bytes > most:
                    most, place = found.bytes, found.node or node
            for value in ending.get(index, ()):
                total -= alive.pop(value, 0)
        return Peak(most, place, len(self._unknown))

    def _note(self, node: ir.Node) -> None:
        """Whether ``node`` shares the memory that it reads."""
        data = node.inputs[0] if node.inputs else None
        if is_op(node, "Identity", *RESHAPES) and data is not None and data not in self._fixed:
            self._owner[node.outputs[0]] = self._root(data)

    def _root(self, value: ir.Value) -> ir.Value:
        return self._owner.get(value, value)

    def _bytes(self, value: ir.Value) -> int:
        size = value_bytes(value, self._shapes) if value.name else 0
        if size is None:
            self._unknown.add(value)
        return size or 0


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What ``node`` and the graphs inside it read."""
    yield from _values(node.inputs)
    for graph in subgraphs(node):
        for inner in graph.all_nodes():
            yield from _values(inner.inputs)
        yield from _values(graph.outputs)


def _values(values: Iterable[ir.Value | None]) -> Iterator[ir.Value]:
    return (value for value in values if value is not None)
