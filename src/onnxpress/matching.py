"""Expressions that a graph may hold: what passes look for.

A pattern is written as the formula itself: ``d / sqrt(mean(d * d) + EPSILON)``. Operands of Add and
Mul match in either order, and a pattern that occurs twice in a formula has to be the same value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxpress.values import constant, is_op, name_of

COMMUTATIVE = ("Add", "And", "Max", "Min", "Mul", "Or", "Sum", "Xor")


@dataclass(frozen=True, eq=False)
class Pattern:
    """Matches a value, and may be part of others."""

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        """Every way to match ``value``, given what is found already."""
        raise NotImplementedError

    def __add__(self, other: Pattern) -> Pattern:
        return Op("Add", self, other)

    def __mul__(self, other: Pattern) -> Pattern:
        return Op("Mul", self, other)

    def __sub__(self, other: Pattern) -> Pattern:
        return Op("Sub", self, other)

    def __truediv__(self, other: Pattern) -> Pattern:
        return Op("Div", self, other)


@dataclass(frozen=True)
class Match:
    """Pattern → the value that it stands for, and the nodes in between, the last one first."""

    values: Mapping[Pattern, ir.Value] = field(default_factory=dict)
    nodes: tuple[ir.Node, ...] = ()

    def __getitem__(self, pattern: Pattern) -> ir.Value:
        return self.values[pattern]

    def number(self, pattern: Pattern) -> float:
        """The only number of the constant that ``pattern`` stands for."""
        array = constant(self.values[pattern])
        assert array is not None
        return float(array.reshape(-1)[0])

    def keeps_shape(self, data: Sequence[object] | None, result: Sequence[object] | None) -> bool:
        """Whether ``result`` has the shape of ``data``, given both as far as they are known.

        Numbers without dimensions leave every shape as it is; others may add dimensions.
        """
        numbers = (value for one, value in self.values.items() if isinstance(one, Number))
        if all(constant(value).ndim == 0 for value in numbers):  # type: ignore[union-attr]  # matched
            return True
        return data is not None and data == result

    def bound(self, pattern: Pattern, value: ir.Value, node: ir.Node | None = None) -> Match:
        """With ``pattern`` for ``value``, which ``node`` makes."""
        nodes = self.nodes if node is None or node in self.nodes else (*self.nodes, node)
        return Match({**self.values, pattern: value}, nodes)


@dataclass(frozen=True, eq=False)
class Any(Pattern):
    """Any value; ``computed`` ones are no constants."""

    computed: bool = False

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        if self in found.values:
            if found[self] is value:
                yield found
        elif not (self.computed and constant(value) is not None):
            yield found.bound(self, value)


@dataclass(frozen=True, eq=False)
class Constant(Pattern):
    """A constant of any shape."""

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        if found.values.get(self, value) is value and constant(value) is not None:
            yield found.bound(self, value)


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A constant of one number, which is ``value`` (to 1e-3 of it) where one is given."""

    value: float | None = None

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        array = constant(value)
        if array is None or array.size != 1 or array.dtype.kind not in "fiu":
            return
        if self.value is None or math.isclose(
            float(array.reshape(-1)[0]), self.value, rel_tol=1e-3
        ):
            yield found.bound(self, value)


class Op(Pattern):
    """A node of ONNX's own operators and its first inputs; its first output is the value."""

    def __init__(self, op_type: str, *inputs: Pattern) -> None:
        self.op_type, self.inputs = op_type, inputs

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        if self in found.values:
            if found[self] is value:
                yield found
            return
        node = value.producer()
        if node is None or not is_op(node, self.op_type) or node.outputs[0] is not value:
            return
        given = [one for one in node.inputs[: len(self.inputs)] if one is not None]
        if len(given) != len(self.inputs):
            return
        found = found.bound(self, value, node)
        orders: list[Sequence[ir.Value]] = [given]
        if self.op_type in COMMUTATIVE and len(node.inputs) == 2:
            orders.append(given[::-1])
        for order in orders:
            yield from _each(self.inputs, order, found)


class OneOf(Pattern):
    """The first of several that matches, or the next ones."""

    def __init__(self, *patterns: Pattern) -> None:
        self.patterns = patterns

    def matches(self, value: ir.Value, found: Match) -> Iterator[Match]:
        if self in found.values:
            if found[self] is value:
                yield found
            return
        for pattern in self.patterns:
            for match in pattern.matches(value, found):
                yield match.bound(self, value)


def _each(patterns: Sequence[Pattern], values: Sequence[ir.Value], found: Match) -> Iterator[Match]:
    if not patterns:
        yield found
        return
    for match in patterns[0].matches(values[0], found):
        yield from _each(patterns[1:], values[1:], match)


def match(pattern: Pattern, value: ir.Value) -> Match | None:
    """The first match whose inner values nothing else reads; None where there is none."""
    for found in pattern.matches(value, Match()):
        if not blocking(found, value):
            return found
    return None


@dataclass(frozen=True)
class Blocked:
    """A match that cannot go, why, and the name of the node that is in the way."""

    match: Match
    why: str
    reader: str


def blocked(pattern: Pattern, value: ir.Value) -> Blocked | None:
    """The first match that others read inner values of."""
    for found in pattern.matches(value, Match()):
        readers = blocking(found, value)
        if not readers:
            continue
        first = readers[0]
        what = "one of its inner values"
        inside = first in found.nodes
        why = f"{what} is an output of the graph" if inside else f"{first.op_type} reads {what}"
        return Blocked(found, why, name_of(first))
    return None


def blocking(found: Match, result: ir.Value) -> list[ir.Node]:
    """The nodes that read inner values of ``found``, and those of its own whose value is an output.

    They keep what would go.
    """
    own = set(found.nodes)
    return [
        user
        for node in found.nodes
        for value in node.outputs
        if value is not result
        for user, _ in value.uses()
        if user not in own
    ] + [
        node
        for node in found.nodes
        if any(value.is_graph_output() and value is not result for value in node.outputs)
    ]
