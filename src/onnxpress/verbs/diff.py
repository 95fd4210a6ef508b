"""How one model differs from another: what was added, removed, changed and merged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.correspondence import Correspondence
from onnxpress.model import JOURNAL_KEY, Entry, Model
from onnxpress.numbering import Hashes, attributes
from onnxpress.values import constant_tensor, is_op, name_of
from onnxpress.verbs.history import History

LONGEST = 80
"""Letters of an attribute or of metadata that are told."""


@dataclass(frozen=True)
class NodeName:
    """A node of one of the two models, and the passes that took it away or made it, if known."""

    node: str
    op: str
    passes: tuple[str, ...] = ()

    @classmethod
    def of(cls, node: ir.Node, passes: tuple[str, ...] = ()) -> NodeName:
        return cls(name_of(node), node.op_type, passes)

    def to_dict(self) -> dict[str, object]:
        return {"node": self.node, "op": self.op, "passes": list(self.passes)}


@dataclass(frozen=True)
class Changed:
    """One thing that both models have, and differently.

    ``kind`` is ``attribute``, ``weights``, ``input``, ``dtype``, ``shape``, ``signature``,
    ``opset``, ``ir_version`` or ``metadata``; ``where`` the node or tensor of the second model.
    For weights of one shape, ``elements`` of ``size`` differ, by at most ``max_abs_diff``.
    """

    kind: str
    where: str
    what: str
    before: str
    after: str
    elements: int | None = None
    size: int | None = None
    max_abs_diff: float | None = None


@dataclass(frozen=True)
class Merged:
    """Nodes of the first model, and what stands for them: nodes or ``constants`` of the second.

    ``passes`` did it, in their order, where the second model's journal knows.
    """

    before: tuple[NodeName, ...]
    after: tuple[NodeName, ...]
    constants: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return {
            "from": [{"node": node.node, "op": node.op} for node in self.before],
            "into": [{"node": node.node, "op": node.op} for node in self.after],
            "constants": list(self.constants),
            "passes": list(self.passes),
        }


@dataclass(frozen=True)
class Difference:
    """What was done to get from the first model to the second.

    ``nodes`` counts the nodes of both, ``same`` those that are unchanged. ``renamed`` maps names
    of inputs and outputs to their new ones; names alone are no difference. ``journal`` holds the
    steps that the second model has taken since the first, where its journal goes on from there.
    """

    added: tuple[NodeName, ...]
    removed: tuple[NodeName, ...]
    changed: tuple[Changed, ...]
    merged: tuple[Merged, ...]
    nodes: tuple[int, int]
    same: int
    renamed: Mapping[str, str]
    journal: tuple[Mapping[str, object], ...]

    @property
    def equal(self) -> bool:
        """Whether both compute the same of the same, whatever their names are."""
        return not (self.added or self.removed or self.changed or self.merged)

    def to_dict(self) -> dict[str, object]:
        return {
            "equal": self.equal,
            "added": [node.to_dict() for node in self.added],
            "removed": [node.to_dict() for node in self.removed],
            "changed": [asdict(change) for change in self.changed],
            "merged": [group.to_dict() for group in self.merged],
            "nodes": {"before": self.nodes[0], "after": self.nodes[1], "same": self.same},
            "renamed": dict(self.renamed),
            "journal": [dict(entry) for entry in self.journal],
        }


def diff(a: Model, b: Model) -> Difference:
    """Compare two models by what their nodes compute; functions of the models are inlined."""
    one, two = a.inlined(), b.inlined()
    history = History(map(name_of, one.ir.graph), _steps(a, b))
    found = Correspondence(one.ir, two.ir, history.untouched)
    groups = _Groups(found, history)
    nodes = list(_node_changes(found, groups.together))
    changed = [*_signature(found), *_versions(a, b), *nodes]
    touched = {change.where for change in nodes}
    return Difference(
        tuple(NodeName.of(node, groups.history.made(name_of(node))) for node in groups.added),
        tuple(NodeName.of(node, groups.lost(node)) for node in groups.removed),
        tuple(changed),
        tuple(groups.merged),
        (len(found.a), len(found.b)),
        sum(name_of(node) not in touched for node in found.nodes.values()),
        _renamed(found),
        _journal(a, b),
    )


class _Groups:
    """Sorts the nodes that are in one model only into merged, added and removed."""

    def __init__(self, found: Correspondence, history: History) -> None:
        self._found = found
        self.history = history
        self._group: dict[ir.Node, int] = {}
        self._order = {node: index for index, node in enumerate(found.a)}
        told = list(self._told())  # first: it takes back pairs that belong to a merge
        kept = {
            found.hashes.of(v)
            for node in found.b
            for v in node.inputs
            if v and found.copies.is_constant(v)
        }
        self._left = {
            node: None
            for node in found.a
            if node not in found.nodes
            if not (is_op(node, "Constant") and found.hashes.of(node.outputs[0]) in kept)
        }
        taken = set(found.nodes.values())
        known = {
            found.hashes.of(v)
            for node in found.a
            for v in node.inputs
            if v and found.copies.is_constant(v)
        }
        self._new = {
            node: None
            for node in found.b
            if node not in taken
            if not (is_op(node, "Constant") and found.hashes.of(node.outputs[0]) in known)
        }
        self.merged: list[Merged] = []
        self.added: list[ir.Node] = []
        self._as_told(told)
        self._new_nodes()
        self._folded()
        self._computed_once()
        self.removed = list(self._left)

    def lost(self, node: ir.Node) -> tuple[str, ...]:
        """The passes that took ``node`` away; constants went with their first reader."""
        if is_op(node, "Constant"):
            node = next((user for user, _ in node.outputs[0].uses()), node)
        return self.history.lost(name_of(node))

    def together(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether one merge has what made ``a`` before and what makes ``b`` now."""
        one, two = a.producer(), b.producer()
        if one is None or two is None:
            return False
        return one in self._group and self._group[one] == self._group.get(two)

    def _told(self) -> Iterator[tuple[list[ir.Node], list[ir.Node]]]:
        """What the journal says became what, as far as the two graphs bear it out.

        A node that both graphs have is no part of it, unless it took others in.
        """
        first, second = (
            {name_of(node): node for node in graph} for graph in (self._found.a, self._found.b)
        )
        if len(first) != len(self._found.a) or len(second) != len(self._found.b):
            return  # a name says nothing there
        for names, made in self.history.merged:
            before = [first[name] for name in names if name in first]
            after = [second[name] for name in made if name in second]
            others = [a for a in before if a not in self._found.nodes]
            if not others or not after:
                continue
            for a in before:
                b = self._found.nodes.get(a)
                if b in after and not self._found.equal(a, b):
                    self._found.split(a)
            taken = set(self._found.nodes.values())
            after = [b for b in after if b not in taken]
            if after:
                yield [a for a in before if a not in self._found.nodes], after

    def _as_told(self, told: Iterable[tuple[list[ir.Node], list[ir.Node]]]) -> None:
        for before, after in told:
            cone = [node for node in before if node in self._left]
            for node in cone:
                del self._left[node]
            for node in list(cone):  # constants go with what alone reads them
                cone += self._cone(
                    [v for v in node.inputs if v and self._found.copies.is_constant(v)]
                )
            for node in after:
                self._new.pop(node, None)
            if cone:
                self._merge(cone, after)

    def _merge(
        self, before: Sequence[ir.Node], after: Sequence[ir.Node], constants: tuple[str, ...] = ()
    ) -> None:
        before = sorted(before, key=self._order.__getitem__)
        for node in (*before, *after):
            self._group[node] = len(self.merged)
        passes = self.history.passes(map(name_of, before), map(name_of, after))
        self.merged.append(Merged(_names(before), _names(after), constants, passes))

    def _new_nodes(self) -> None:
        """New nodes that feed one another, and what lay between the same values before."""
        while self._new:
            group = self._component()
            ends = [a for node in group for v in node.outputs for a in self._found.originals(v)]
            cone = self._cone(ends)
            if not cone:
                self.added += group
                continue
            self._merge(cone, group)

    def _component(self) -> list[ir.Node]:
        """New nodes joined by values that the first model does not have and that one node reads."""
        group = [next(iter(self._new))]
        del self._new[group[0]]
        for node in group:  # it grows meanwhile
            near: list[ir.Node | None] = []
            for value in (v for v in (*node.inputs, *node.outputs) if v is not None):
                users = {user for user, _ in value.uses()}
                if len(users) == 1 and not self._found.originals(value):
                    near += [value.producer(), *users]
            for other in near:
                if other is not None and other in self._new:
                    del self._new[other]
                    group.append(other)
        order = {node: index for index, node in enumerate(self._found.b)}
        return sorted(group, key=order.__getitem__)

    def _cone(self, ends: Iterable[ir.Value]) -> list[ir.Node]:
        """The nodes that only the first model has, backward from ``ends``; each is taken once."""
        cone: list[ir.Node] = []
        waiting = list(ends)
        while waiting:
            node = waiting.pop().producer()
            if node is None or node not in self._left:
                continue
            del self._left[node]
            cone.append(node)
            waiting += [
                value
                for value in node.inputs
                if value is not None
                if value not in self._found.values or self._found.copies.is_constant(value)
            ]
        return cone

    def _folded(self) -> None:
        """What a node computed its input with, where the other model has a constant."""
        for a, b in self._found.nodes.items():
            for one, two in zip(a.inputs, b.inputs, strict=False):
                if (
                    one is None
                    or two is None
                    or self._found.copies.is_constant(one)
                    or not self._found.copies.is_constant(two)
                ):
                    continue
                cone = self._cone([one])
                if cone:
                    self._merge(cone, (), (str(two.name),))

    def _computed_once(self) -> None:
        """Several nodes of the first model whose outputs are one value of the second."""
        found, twins = self._found, dict[ir.Node, list[ir.Node]]()
        first = {b: a for a, b in found.nodes.items()}
        for node in list(self._left):
            made = found.values.get(node.outputs[0])
            by = made.producer() if made is not None else None
            if by in first and found.hashes.node(node) == found.hashes.node(first[by]):
                twins.setdefault(by, [first[by]]).append(node)
                del self._left[node]
        for by, nodes in twins.items():
            self._merge(nodes, [by])


def _names(nodes: Sequence[ir.Node]) -> tuple[NodeName, ...]:
    return tuple(map(NodeName.of, nodes))


def _node_changes(
    found: Correspondence, together: Callable[[ir.Value, ir.Value], bool]
) -> Iterator[Changed]:
    """``together`` knows values that one merge has changed: told as merged."""
    seen: set[tuple[int, int]] = set()
    for a, b in found.nodes.items():
        yield from _attributes(a, b, found.hashes)
        for one, two in found.operands(a, b):
            if found.copies.is_constant(one) and found.copies.is_constant(two):
                first, second = (
                    constant_tensor(found.copies.root(one)),
                    constant_tensor(found.copies.root(two)),
                )
                assert first is not None
                assert second is not None
                if (id(first), id(second)) in seen:
                    continue
                seen.add((id(first), id(second)))
                if found.hashes.tensor(first) != found.hashes.tensor(second):
                    yield _weights(name_of(b), str(two.name), first, second)
            elif found.copies.is_constant(one) or not found.same(one, two):
                if found.copies.is_constant(two):  # folded: told as merged
                    continue
                if not together(one, two):
                    yield Changed("input", name_of(b), "reads", _origin(one), _origin(two))
        for one, two in zip(a.outputs, b.outputs, strict=True):
            yield from _types(one, two)


def _origin(value: ir.Value) -> str:
    """A value with what makes it: two graphs may have one name for what two nodes compute."""
    node = value.producer()
    if node is not None:
        return f"{value.name} (by {node.op_type})"
    return f"{value.name} ({'a constant' if constant_tensor(value) is not None else 'an input'})"


def _attributes(a: ir.Node, b: ir.Node, hashes: Hashes) -> Iterator[Changed]:
    before, after = attributes(a), attributes(b)
    for name in sorted({*before, *after}):
        one, two = before.get(name), after.get(name)
        if one is None or two is None or hashes.attribute(one) != hashes.attribute(two):
            yield Changed("attribute", name_of(b), name, _told(one), _told(two))


def _weights(node: str, name: str, one: ir.TensorProtocol, two: ir.TensorProtocol) -> Changed:
    before, after = f"{_dtype(one)}{list(one.shape)}", f"{_dtype(two)}{list(two.shape)}"
    if tuple(one.shape) != tuple(two.shape) or ir.DataType.STRING in (one.dtype, two.dtype):
        return Changed("weights", node, name, before, after)
    x, y = one.numpy(), two.numpy()
    gap = np.abs(x.astype(np.float64) - y.astype(np.float64))
    count, most = int(np.count_nonzero(x != y)), float(gap.max(initial=0.0))
    return Changed(
        "weights", node, name, before, after, count, x.size, most if math.isfinite(most) else None
    )


def _types(one: ir.Value, two: ir.Value) -> Iterator[Changed]:
    if one.dtype is not None and two.dtype is not None and one.dtype != two.dtype:
        yield Changed("dtype", str(two.name), "type", one.dtype.name, two.dtype.name)
    if one.shape is not None and two.shape is not None and _differ(one.shape, two.shape):
        yield Changed("shape", str(two.name), "shape", str(one.shape), str(two.shape))


def _differ(a: ir.Shape, b: ir.Shape) -> bool:
    """Numbers only: a dimension may get another name, and a formula its value."""
    return len(a) != len(b) or any(
        one != two
        for one, two in zip(a, b, strict=True)
        if isinstance(one, int) and isinstance(two, int)
    )


def _signature(found: Correspondence) -> Iterator[Changed]:
    for kind, first, second in (
        ("input", *found.ports("inputs")),
        ("output", *found.ports("outputs")),
    ):
        for value in first:
            two = found.values.get(value)
            if two is None or two not in second:
                yield Changed("signature", str(value.name), kind, _spec(value), "")
            elif _spec(value) != _spec(two):
                yield Changed("signature", str(two.name), kind, _spec(value), _spec(two))
        for value in second:
            if not any(a in first for a in found.originals(value)):
                yield Changed("signature", str(value.name), kind, "", _spec(value))


def _versions(a: Model, b: Model) -> Iterator[Changed]:
    before, after = a.ir.opset_imports, b.ir.opset_imports
    for domain in sorted({*before, *after}):
        if before.get(domain) != after.get(domain):
            one, two = str(before.get(domain, "")), str(after.get(domain, ""))
            yield Changed("opset", domain or "ai.onnx", "opset", one, two)
    if a.ir.ir_version != b.ir.ir_version:
        yield Changed("ir_version", "model", "", str(a.ir.ir_version), str(b.ir.ir_version))
    for key in sorted({*a.metadata, *b.metadata} - {JOURNAL_KEY}):
        one, two = a.metadata.get(key, ""), b.metadata.get(key, "")
        if one != two:
            yield Changed("metadata", "model", key, one[:LONGEST], two[:LONGEST])


def _renamed(found: Correspondence) -> dict[str, str]:
    ports = [*found.ports("inputs")[0], *found.ports("outputs")[0]]
    pairs = [(value, found.values[value]) for value in ports if value in found.values]
    return {str(one.name): str(two.name) for one, two in pairs if one.name != two.name}


def _journal(a: Model, b: Model) -> tuple[Mapping[str, object], ...]:
    return tuple({"step": e.step, "rewrites": e.rewrites} for e in _steps(a, b))


def _steps(a: Model, b: Model) -> Sequence[Entry]:
    """What ``b``'s journal has more than ``a``'s; nothing where it does not go on from there."""
    before, after = a.journal.entries, b.journal.entries
    return after[len(before) :] if after[: len(before)] == before else ()


def _told(attribute: ir.Attr | None) -> str:
    if attribute is None:
        return ""
    if attribute.type == ir.AttributeType.GRAPH:
        return f"{sum(1 for _ in attribute.as_graph())} nodes"
    if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
        tensor = attribute.as_tensor()
        return f"{_dtype(tensor)}{list(tensor.shape)}"
    return str(attribute.value)[:LONGEST]


def _spec(value: ir.Value) -> str:
    shape = "…" if value.shape is None else ", ".join(str(dim) for dim in value.shape)
    return f"{value.dtype.name.lower() if value.dtype else 'unknown'}[{shape}]"


def _dtype(tensor: ir.TensorProtocol) -> str:
    return tensor.dtype.name.lower()
