"""Which of the file's nodes each kernel stands for, what these multiply and where they come from.

Engines name a kernel after one of the nodes that it was fused of, or after a value that one of
them makes. A product that no kernel is named after went into the kernel that its output flows to:
Q·Kᵀ, whose sum with the mask, Softmax and product with V are one kernel called after the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.engine import Timed
from onnxpress.model import Model
from onnxpress.values import subgraphs
from onnxpress.verbs.executed import COMPUTE
from onnxpress.verbs.layers import Layer

REACH = 4
"""A kernel without layers belongs to the module of one that reads it, over so many steps."""


@dataclass(frozen=True)
class Share:
    """What one kernel stands for: ``layers`` by name, the one that multiplies most first.

    ``macs`` of one run, all calls together: 0 where nothing is multiplied, None where a layer's
    sizes are not known.
    """

    layers: tuple[str, ...]
    macs: int | None
    module: str


def attribute(
    kernels: Sequence[Timed], model: Model, layers: Sequence[Layer]
) -> tuple[tuple[Share, ...], int]:
    """A share for each kernel, and the MACs of the main graph that no kernel was found for.

    ``model`` has a name for every node, and no name twice; ``layers`` are its nodes'. No layer is
    counted twice: of several kernels that are named after it, one that multiplies has it.
    """
    graph = _Names(model)
    costs = {layer.node: layer for layer in layers}
    owners = _claimed(kernels, graph)
    multiply = {index for index, kernel in enumerate(kernels) if COMPUTE.search(kernel.op)}
    multiply |= {owner for name, owner in owners.items() if costs[name].macs != 0}
    lost = 0
    for name, layer in costs.items():
        if name in owners or layer.macs == 0:
            continue
        owner = _inside(name, graph, owners)
        if owner is None:
            owner = _downstream(graph.nodes[name], owners, multiply)
        if owner is not None:
            owners[name] = owner
        elif graph.parents[name] is None:
            lost += layer.macs or 0
    own: list[list[str]] = [[] for _ in kernels]
    for name, owner in owners.items():
        own[owner].append(name)
    for names in own:
        names.sort(key=lambda name: -(costs[name].macs or 0))
    modules = _modules(kernels, own, costs)
    return tuple(
        Share(tuple(names), _macs(kernel, names, costs, graph, owners), module)
        for kernel, names, module in zip(kernels, own, modules, strict=True)
    ), lost


class _Names:
    """Nodes, the makers of values, and the node that each node is inside of."""

    def __init__(self, model: Model) -> None:
        self.nodes: dict[str, ir.Node] = {}
        self.makers: dict[str, str] = {}
        self.parents: dict[str, str | None] = {}
        self._read(model.ir.graph, None)

    def _read(self, graph: Iterable[ir.Node], parent: str | None) -> None:
        for node in graph:
            name = str(node.name)
            self.nodes[name], self.parents[name] = node, parent
            for value in node.outputs:
                self.makers.setdefault(str(value.name), name)
            for inner in subgraphs(node):
                self._read(inner, name)

    def find(self, hint: str) -> str | None:
        return hint if hint in self.nodes else self.makers.get(hint)


def _claimed(kernels: Sequence[Timed], graph: _Names) -> dict[str, int]:
    """Node → the kernel that is named after it: one that multiplies, then the slowest."""
    owners: dict[str, int] = {}

    def weight(index: int) -> tuple[bool, float]:
        return COMPUTE.search(kernels[index].op) is not None, kernels[index].ms

    for index, kernel in enumerate(kernels):
        for hint in kernel.layers:
            name = graph.find(hint)
            if name is not None and (name not in owners or weight(index) > weight(owners[name])):
                owners[name] = index
    return owners


def _inside(name: str, graph: _Names, owners: Mapping[str, int]) -> int | None:
    """The kernel of the Loop or If around it, where the engine tells nothing of the inside."""
    parent = graph.parents[name]
    while parent is not None:
        if parent in owners:
            told = any(parent == graph.parents[other] for other in owners)
            return None if told else owners[parent]
        parent = graph.parents[parent]
    return None


def _downstream(node: ir.Node, owners: Mapping[str, int], multiply: Collection[int]) -> int | None:
    """The next kernel that multiplies, along nodes that are no kernel's."""
    left, seen = list(_users(node)), {node}
    while left:
        user = left.pop(0)
        if user in seen:
            continue
        seen.add(user)
        owner = owners.get(str(user.name))
        if owner is None:
            left += _users(user)
        elif owner in multiply:
            return owner
    return None


def _users(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.outputs:
        for user, _ in value.uses():
            yield user


def _macs(
    kernel: Timed,
    names: Sequence[str],
    costs: Mapping[str, Layer],
    graph: _Names,
    owners: Mapping[str, int],
) -> int | None:
    """Of all layers, as often as the kernel ran; those inside a Loop's kernel as often as it loops.

    None where that, the branch that an If took or a size is not known.
    """
    total = 0
    for name in names:
        layer, parent = costs[name], graph.parents[name]
        inside = parent is not None and owners.get(parent) == owners[name]
        runs = 1
        if inside and parent is not None and layer.macs != 0:
            runs = layer.runs // max(1, costs[parent].runs)
            if runs < 2:  # a Loop of unknown trips counts as one, a branch as taken or not
                return None
        if layer.macs is None:
            return None
        total += layer.macs * kernel.calls * runs
    return total


def _modules(
    kernels: Sequence[Timed], own: Sequence[Sequence[str]], costs: Mapping[str, Layer]
) -> list[str]:
    """The module of the layer that multiplies most; without a layer, that of a reader."""
    known: dict[str, str] = {}
    for kernel, names in zip(kernels, own, strict=True):
        if names:
            told = (costs[name].module for name in names)
            known.setdefault(kernel.name, next(filter(None, told), ""))
    readers = {kernel.name: kernel.readers for kernel in kernels}
    found = []
    for kernel in kernels:
        near = [kernel.name]
        for _ in range(REACH):
            if any(name in known for name in near):
                break
            near = [reader for name in near for reader in readers.get(name, ())]
        found.append(next((known[name] for name in near if name in known), ""))
    return found
