"""Which nodes a rewrite took away and which it made: the graph before it compared with after.

A pass does not say so itself, and need not: nodes are objects, and what read an old value reads
the new one now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.values import name_of


@dataclass(frozen=True)
class Rewritten:
    """The nodes called ``made`` stand for those called ``gone``; either may be empty.

    A node that a rewrite changed in place is in both. ``Constant`` nodes are in neither: they are
    values.
    """

    gone: tuple[str, ...]
    made: tuple[str, ...]


def followed(names: Iterable[str], steps: Iterable[Iterable[Rewritten]]) -> set[str]:
    """``names``, and the nodes that took the place of those, step by step."""
    found = set(names)
    for step in steps:
        found |= {name for nodes in step if found & set(nodes.gone) for name in nodes.made}
    return found


@dataclass(frozen=True)
class _Seen:
    """A node as it was."""

    name: str
    op: tuple[str, str]
    attributes: tuple[ir.Attr, ...]
    inputs: tuple[ir.Value | None, ...]
    tensors: tuple[ir.TensorProtocol | None, ...]

    @classmethod
    def of(cls, node: ir.Node) -> _Seen:
        tensors = tuple(
            value.const_value if value is not None and value.is_initializer() else None
            for value in node.inputs
        )
        attributes = tuple(node.attributes.values())
        op = node.domain, node.op_type
        return cls(name_of(node), op, attributes, tuple(node.inputs), tensors)

    def is_other(self, now: _Seen) -> bool:
        """Whether it computes something else now: but for inputs that other nodes make."""
        if self.op != now.op or len(self.inputs) != len(now.inputs):
            return True
        if len(self.attributes) != len(now.attributes) or not all(
            map(_are_equal, self.attributes, now.attributes)
        ):
            return True
        return any(
            was is not None and was is not tensor
            for was, tensor in zip(self.tensors, now.tensors, strict=True)
        )


class Before:
    """A model's nodes before a rewrite. ``rewritten`` tells what became of them."""

    def __init__(self, model: ir.Model) -> None:
        self._nodes = {node: _Seen.of(node) for node in _nodes(model)}
        self._maker = {value: node for node in self._nodes for value in node.outputs}
        self._named = {value.name: value for value in self._maker if value.name}
        self._outputs = [(graph, tuple(graph.outputs)) for graph in model.graphs()]

    def rewritten(self, model: ir.Model) -> tuple[Rewritten, ...]:
        """The new nodes, each with what lay between the same values before; then the rest.

        What several new nodes stand for is told with the first of them.
        """
        now = {node: _Seen.of(node) for node in _nodes(model)}
        left = {node: None for node in self._nodes if node not in now}
        active: dict[ir.Node, None] = {
            node: None
            for node, seen in now.items()
            if node not in self._nodes or self._nodes[node].is_other(seen)
        }
        stands = self._stands_for(now)
        ends = {node: self._ends(node, stands) for node in active}
        for node, values in ends.items():
            again = self._again(now[node], values, left)
            if again is not None:
                del left[again], active[node]
        ends = {node: ends[node] for node in active}
        groups: dict[ir.Node, list[ir.Node]] = defaultdict(list)
        for node in active:
            groups[_leader(node, ends)].append(node)
        told = []
        for made in groups.values():
            gone = self._cone([end for node in made for end in ends[node]], left)
            gone += [node for node in made if node in self._nodes]
            names = self._names(gone), tuple(name_of(node) for node in made if _counts(node))
            if names[0] != names[1] and any(names):
                told.append(Rewritten(*names))
        rest = self._names(left)
        return (*told, Rewritten(rest, ())) if rest else tuple(told)

    def _stands_for(self, now: dict[ir.Node, _Seen]) -> dict[ir.Value, list[ir.Value]]:
        """New value → the old ones that the same readers had there."""
        stands: dict[ir.Value, list[ir.Value]] = defaultdict(list)
        pairs = [
            (seen.inputs, now[node].inputs) for node, seen in self._nodes.items() if node in now
        ]
        pairs += [(was, tuple(graph.outputs)) for graph, was in self._outputs]
        for old, new in pairs:
            for one, two in zip(old, new, strict=False):
                if one is not None and two is not None and one is not two:
                    stands[two].append(one)
        return stands

    def _ends(self, node: ir.Node, stands: dict[ir.Value, list[ir.Value]]) -> list[ir.Value]:
        """The old values whose makers ``node`` takes the place of."""
        found = []
        for value in node.outputs:
            found += stands.get(value, [])
            if node not in self._nodes and value.name in self._named:
                found.append(self._named[value.name])
        if node in self._nodes:  # changed in place: what it reads no more
            old = self._nodes[node].inputs
            found += [value for value in old if value is not None and value not in node.inputs]
            found += node.outputs
        return found

    def _again(
        self, now: _Seen, ends: Iterable[ir.Value], left: dict[ir.Node, None]
    ) -> ir.Node | None:
        """The old node that a new one is written again of, as some rewriters do."""
        makers = (self._maker.get(value) for value in ends)
        return next(
            (old for old in makers if old in left and not self._nodes[old].is_other(now)), None
        )

    def _cone(self, ends: Iterable[ir.Value], left: dict[ir.Node, None]) -> list[ir.Node]:
        """The nodes that are gone, backward from ``ends``; each is taken once."""
        cone, waiting = [], list(ends)
        while waiting:
            node = self._maker.get(waiting.pop())
            if node is not None and node in left:
                del left[node]
                cone.append(node)
                waiting += [value for value in self._nodes[node].inputs if value is not None]
        return cone

    def _names(self, nodes: Iterable[ir.Node]) -> tuple[str, ...]:
        """In the order of the graph."""
        chosen = set(nodes)
        return tuple(
            seen.name for node, seen in self._nodes.items() if node in chosen and _counts(node)
        )


def _leader(node: ir.Node, ends: dict[ir.Node, list[ir.Value]]) -> ir.Node:
    """The first new node from ``node`` on that stands for something; itself where none does."""
    waiting = {node: None}
    while waiting:
        near = next(iter(waiting))
        del waiting[near]
        if ends[near]:
            return near
        readers = (user for value in near.outputs for user, _ in value.uses())
        waiting |= {user: None for user in readers if user in ends}
    return node


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(model.graph))


def _counts(node: ir.Node) -> bool:
    return node.op_type != "Constant"


def _are_equal(one: ir.Attr, two: ir.Attr) -> bool:
    if one is two:
        return True
    plain = not isinstance(one.value, ir.Graph | ir.TensorProtocol)
    return plain and one.name == two.name and bool(one.value == two.value)
