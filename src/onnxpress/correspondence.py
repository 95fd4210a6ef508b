"""Which values and nodes of one graph are which of another, whatever they are called.

Five kinds of evidence, strongest first: the same computation of the same inputs and constants
(a hash from the inputs forward, as in value numbering); inputs and outputs by name or place;
weights that only one node of each graph reads; names of values, where most names of one graph are
the other's too; and the same operator beside values that are known to be the same, backward from
outputs and forward from inputs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from typing import Literal

import onnx_ir as ir

from onnxpress.matching import COMMUTATIVE
from onnxpress.numbering import Copies, Hashes, domain_of
from onnxpress.values import constant_tensor, is_op, name_of

DERIVED = 0.5
"""From this share of node outputs on that are called and made alike, names are evidence."""

WEIGHT = 16
"""Elements that a constant has at least that tells nodes from one another."""

BLOCKED = "_nchwc"
"""ONNX Runtime calls a node so after its output, where that has another layout now."""

MOST_STEPS = 4
"""How many nodes may lie between a value and what takes its place."""

Pair = tuple[ir.Value, ir.Value]


class Correspondence:
    """Of graph ``a`` in ``b``. ``nodes`` maps a node of ``a`` to the one of ``b`` that it is.

    ``values`` maps values of ``a`` to their equals in ``b``, several to one where ``b`` has
    merged them. Constants are none of them: they are compared by content. Nodes called as one of
    ``kept`` in both graphs are the same, where operators, attributes and weights agree.
    """

    def __init__(self, a: ir.Model, b: ir.Model, kept: Sequence[str] = ()) -> None:
        self.a, self.b = a.graph, b.graph
        self.copies = Copies(a, b)
        self.hashes = Hashes(self.copies)
        self.nodes: dict[ir.Node, ir.Node] = {}
        self.values: dict[ir.Value, ir.Value] = {}
        self._of: dict[ir.Value, list[ir.Value]] = defaultdict(list)
        self._taken: set[ir.Node] = set()
        self._waiting: list[Pair] = []
        self._ports()
        self._as_known(kept)
        self._same_computation()
        self._backward()
        self._same_weights()
        self._same_names()
        while (
            self._backward()
            or self._forward(exact=True)
            or self._forward(exact=False)
            or self._computed_once()
        ):
            pass

    def ports(self, kind: Literal["inputs", "outputs"]) -> tuple[list[ir.Value], list[ir.Value]]:
        """The inputs (initializers left out) or outputs of both graphs."""
        if kind == "inputs":
            return _inputs(self.a), _inputs(self.b)
        return list(self.a.outputs), list(self.b.outputs)

    def operands(self, a: ir.Node, b: ir.Node) -> list[Pair]:
        """The inputs of two nodes side by side; of a commutative operator as they fit."""
        first, second = ([v and self.copies.root(v) for v in node.inputs] for node in (a, b))
        if is_op(a, *COMMUTATIVE) and len(first) == 2 and self._is_swapped(first, second):
            second.reverse()
        return [
            (one, two)
            for one, two in zip(first, second, strict=False)
            if one is not None and two is not None
        ]

    def originals(self, value: ir.Value) -> list[ir.Value]:
        """The values of ``a`` that ``value`` of ``b`` is, the first found first."""
        return self._of.get(value, [])

    def equal(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether two nodes compute the same of the same."""
        return self._agree(a, b) and all(self.same(one, two) for one, two in self.operands(a, b))

    def split(self, a: ir.Node) -> None:
        """Takes a pair of nodes back: ``a`` has become something else. Its values stay."""
        self._taken.discard(self.nodes.pop(a))

    def _join(self, a: ir.Value, b: ir.Value) -> None:
        for one, two in dict.fromkeys([(a, b), (self.copies.root(a), self.copies.root(b))]):
            if one not in self.values:
                self.values[one] = two
                self._of[two].append(one)
                self._waiting.append((one, two))

    def _match(self, a: ir.Node, b: ir.Node) -> None:
        self.nodes[a] = b
        self._taken.add(b)
        for one, two in zip(a.outputs, b.outputs, strict=False):
            self._join(one, two)

    def _ports(self) -> None:
        for first, second in (self.ports("inputs"), self.ports("outputs")):
            for one, two in _paired(first, second):
                self._join(one, two)

    def _as_known(self, kept: Sequence[str]) -> None:
        first, second = ({name_of(node): node for node in graph} for graph in (self.a, self.b))
        for name in kept:
            if name in first and name in second and self._agree(first[name], second[name]):
                self._match(first[name], second[name])

    def _agree(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether all that does not depend on other nodes is the same."""
        return (
            self._alike(a, b)
            and len(a.inputs) == len(b.inputs)
            and self.hashes.attributes(a) == self.hashes.attributes(b)
            and all(
                self.same(one, two)
                for one, two in self.operands(a, b)
                if self.copies.is_constant(one) or self.copies.is_constant(two)
            )
        )

    def _same_computation(self) -> None:
        """Inputs that are the same get the same hash; all else follows from the operators."""
        for value in _inputs(self.a):
            if value in self.values:
                self.hashes.know(self.values[value], self.hashes.of(value))
        waiting: dict[bytes, list[ir.Node]] = defaultdict(list)
        for node in self.b:
            if node not in self._taken:
                waiting[self.hashes.node(node)].append(node)
        merged: dict[bytes, ir.Node] = {}
        for node in self.a:
            key = self.hashes.node(node)
            if node in self.nodes:
                merged.setdefault(key, self.nodes[node])
            elif waiting[key]:
                merged[key] = waiting[key].pop(0)
                self._match(node, merged[key])
            elif key in merged:  # the same thing was computed twice
                for one, two in zip(node.outputs, merged[key].outputs, strict=True):
                    self._join(one, two)

    def _same_weights(self) -> None:
        """Nodes that alone read the same weights: the same operator, or what took it in."""
        first, second = self._sole_readers(self.a), self._sole_readers(self.b)
        for key, b in reversed(second.items()):
            a = first.get(key)
            if a is None or a in self.nodes or b in self._taken:
                continue
            one, two = a.outputs[0], b.outputs[0]
            if self._alike(a, b):
                if one not in self.values and not self._of.get(two):
                    self._match(a, b)
            elif self._read_by(one) == self._read_by(two):
                if one not in self.values and not self._of.get(two):
                    self._join(one, two)
            else:
                self._stands_for_more(a, b)
            self._backward()

    def _sole_readers(self, graph: ir.Graph) -> dict[tuple[bytes, int], ir.Node]:
        """Hash of a weight, and the place it is read at → the only node that reads it there."""
        found: dict[tuple[bytes, int], list[ir.Node]] = defaultdict(list)
        for node in graph:
            for place, value in enumerate(node.inputs):
                tensor = None if value is None else constant_tensor(self.copies.root(value))
                if tensor is not None and tensor.size >= WEIGHT:
                    found[self.hashes.tensor(tensor), place].append(node)
        return {key: readers[0] for key, readers in found.items() if len(readers) == 1}

    def _same_names(self) -> None:
        """Values of the same name, in graphs of which one is made of the other.

        From the outputs back, so that structure comes first: a pass may leave a node's name and
        let the node do more than before.
        """
        named: dict[str | None, ir.Value] = {}
        for value in (v for node in self.b for v in node.outputs if v.name):
            named.setdefault(_plain(value), value)
        pairs = [
            (value, named[value.name])
            for node in self.a
            for value in node.outputs
            if value.name in named
        ]
        alike = sum(_are_made_alike(one, two) for one, two in pairs)
        if alike < DERIVED * min(len(named), sum(len(node.outputs) for node in self.a)):
            return
        for one, two in reversed(pairs):
            if not self._of.get(two) and (one.dtype == two.dtype or None in (one.dtype, two.dtype)):
                self._join(one, two)
                self._backward()

    def _backward(self) -> bool:
        """Of values that are the same: their nodes, then their nodes' inputs."""
        found = False
        while self._waiting:
            a, b = self._waiting.pop()
            one, two = a.producer(), b.producer()
            if one is None or two is None or a.index() != b.index():
                continue
            if self.nodes.get(one) is not two:
                if one in self.nodes or two in self._taken or not self._alike(one, two):
                    continue
                self._match(one, two)
                found = True
            for first, second in self._operands(one, two):
                if not self._of.get(second) or self._comes_from(first, second):
                    self._join(first, second)
        return found

    def _comes_from(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether ``a`` is made of what ``b`` is, by nodes that ``b``'s graph does without."""
        value: ir.Value | None = a
        for _ in range(MOST_STEPS):
            node = value.producer() if value is not None else None
            if node is None or node in self.nodes:
                return False
            taken = (
                self.copies.root(v)
                for v in node.inputs
                if v is not None and not self.copies.is_constant(v)
            )
            value = next(taken, None)
            if value is not None and self.values.get(value) is b:
                return True
        return False

    def _forward(self, *, exact: bool) -> bool:
        """Nodes of ``b`` whose inputs are all known; but one where it is not certain."""
        found = False
        for node in self.b:
            if node in self._taken:
                continue
            follower = next(self._followers(node, exact=exact), None)
            if follower is None:
                continue
            if exact:
                self._match(follower, node)
                found = True
                continue
            read_alike = self._read_by(follower.outputs[0]) == self._read_by(node.outputs[0])
            if read_alike or not self._stands_for_more(follower, node):
                self._match(follower, node)
            return True
        return found

    def _followers(self, node: ir.Node, *, exact: bool) -> Iterator[ir.Node]:
        taken = (self.copies.root(value) for value in node.inputs if value is not None)
        first = next((value for value in taken if self._of.get(value)), None)
        for a in self._of[first] if first is not None else ():
            for user in dict.fromkeys(self.copies.readers(a)):
                if user.graph is self.a and self._follows(user, node, exact=exact):
                    yield user

    def _follows(self, a: ir.Node, b: ir.Node, *, exact: bool) -> bool:
        if a in self.nodes or not self._alike(a, b):
            return False
        if any(
            (one in self.values and self.values[one] is not two)
            or (not exact and self._of.get(two) and one not in self._of[two])
            for one, two in zip(a.outputs, b.outputs, strict=True)
        ):
            return False
        if exact and (
            len(a.inputs) != len(b.inputs) or self.hashes.attributes(a) != self.hashes.attributes(b)
        ):
            return False
        for one, two in self.operands(a, b):
            fixed = self.copies.is_constant(one), self.copies.is_constant(two)
            if any(fixed):
                if exact and not (all(fixed) and self.same(one, two)):
                    return False
            elif not self.same(one, two):
                return False
        return True

    def same(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values, or constants, are known to be the same."""
        if self.values.get(self.copies.root(a)) is self.copies.root(b):
            return True
        return self.hashes.of(a) == self.hashes.of(b)

    def _computed_once(self) -> bool:
        """Nodes of ``a`` that compute what another one of ``a`` does, which ``b`` has."""
        found, known = False, dict[bytes, ir.Node]()
        for node in (*self.nodes, *(n for n in self.a if n not in self.nodes)):
            if any(value is None for value in node.inputs) or not node.inputs:
                continue
            first = known.setdefault(self.hashes.node(node), node)
            if first is node or first not in self.nodes or node in self.nodes:
                continue
            for one, two in zip(node.outputs, self.nodes[first].outputs, strict=False):
                if one not in self.values:
                    self._join(one, two)
                    found = True
        return found

    def _stands_for_more(self, a: ir.Node, b: ir.Node) -> bool:
        """Joins what ``a`` and the nodes after it make with what ``b`` makes, or the other way.

        So where ``b`` is read by other operators than ``a``, as a convolution is that has taken in
        its BatchNormalization.
        """
        one, two = a.outputs[0], b.outputs[0]
        for later in self._chain(one, self.nodes):
            if self._read_by(later) == self._read_by(two):
                self._join(later, two)
                return True
        for later in self._chain(two, self._taken):
            if self._read_by(one) == self._read_by(later):
                self._join(one, later)
                return True
        return False

    def _chain(self, value: ir.Value, known: Container[ir.Node]) -> Iterator[ir.Value]:
        """What is made of ``value`` alone, node by node, as long as one node reads it."""
        for _ in range(MOST_STEPS):
            users = {user for user, _ in value.uses()}
            if len(users) != 1 or value.is_graph_output():
                return
            later = users.pop()
            if later in known:
                return
            value = later.outputs[0]
            yield value

    def _read_by(self, value: ir.Value) -> list[str]:
        """The operators that read it; no-ops are none."""
        users = (u for u in self.copies.readers(value) if not self.copies.is_copy(u))
        told = sorted(f"{domain_of(user)}::{user.op_type}" for user in users)
        return [*told, "output"] if value.is_graph_output() else told

    def _alike(self, a: ir.Node, b: ir.Node) -> bool:
        same = (domain_of(a), a.op_type) == (domain_of(b), b.op_type)
        return same and len(a.outputs) == len(b.outputs)

    def _operands(self, a: ir.Node, b: ir.Node) -> list[Pair]:
        """Those that are no constants in either graph."""
        return [
            (one, two)
            for one, two in self.operands(a, b)
            if not self.copies.is_constant(one) and not self.copies.is_constant(two)
        ]

    def _is_swapped(self, a: Sequence[ir.Value | None], b: Sequence[ir.Value | None]) -> bool:
        straight = self._fit(a[0], b[0]) + self._fit(a[1], b[1])
        return self._fit(a[0], b[1]) + self._fit(a[1], b[0]) > straight

    def _fit(self, a: ir.Value | None, b: ir.Value | None, depth: int = 6) -> float:
        """How much two values look the same: known to be, or made by the same operators."""
        if a is None or b is None:
            return float(a is b)
        a, b = self.copies.root(a), self.copies.root(b)
        if a in self.values:
            return 8.0 if self.values[a] is b else 0.0
        if self.copies.is_constant(a) or self.copies.is_constant(b):
            return float(self.copies.is_constant(a) and self.copies.is_constant(b))
        one, two = a.producer(), b.producer()
        if depth == 0 or one is None or two is None or not self._alike(one, two):
            return 0.0
        pairs = zip(one.inputs, two.inputs, strict=False)
        below = [self._fit(x, y, depth - 1) for x, y in pairs]
        return 1 + max(below, default=0.0) / 2


def _paired(a: Sequence[ir.Value], b: Sequence[ir.Value]) -> list[Pair]:
    """By name where both have it, the rest in their order where type and rank are the same."""
    names = {value.name: value for value in b}
    pairs = [(value, names[value.name]) for value in a if value.name in names]
    left = [value for value in a if value.name not in names]
    known = {value.name for value in a}
    others = [value for value in b if value.name not in known]
    if len(a) != len(b):
        return pairs
    return pairs + [
        (one, two)
        for one, two in zip(left, others, strict=True)
        if (one.dtype, _rank(one)) == (two.dtype, _rank(two))
    ]


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _inputs(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.inputs if value.name not in graph.initializers]


def _plain(value: ir.Value) -> str:
    """Its name, or what ONNX Runtime called it before it blocked its channels."""
    node = value.producer()
    if node is not None and node.name and node.name.endswith(BLOCKED):
        return node.name.removesuffix(BLOCKED)
    return str(value.name)


def _are_made_alike(a: ir.Value, b: ir.Value) -> bool:
    """By the same operator, or by one that reads something of the same name as ``a`` is made of.

    So with a fused node that has the name of the last one that it stands for.
    """
    one, two = a.producer(), b.producer()
    assert one is not None
    assert two is not None
    if (domain_of(one), one.op_type) == (domain_of(two), two.op_type):
        return True
    wanted, near = {_plain(v) for v in two.inputs if v is not None}, [one]
    for _ in range(MOST_STEPS):
        read = [value for node in near for value in node.inputs if value is not None]
        if any(value.name in wanted for value in read):
            return True
        near = list(dict.fromkeys(made for value in read if (made := value.producer()) is not None))
    return False
