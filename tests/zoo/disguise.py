"""The same model in other clothes: other names, another node order, swapped operands."""

from __future__ import annotations

import random
from collections.abc import Iterator

import onnx

COMMUTATIVE = ("Add", "And", "Equal", "Max", "Min", "Mul", "Or")


def disguise(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy that computes the same and shares no name with ``model``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    chance = random.Random(seed)
    names: dict[str, str] = {"": ""}
    for graph in _graphs(copy.graph):
        for node in graph.node:
            if node.op_type in COMMUTATIVE and node.domain == "" and chance.random() < 0.5:
                node.input[:] = list(reversed(node.input))
            del node.metadata_props[:]  # the exporter's names of modules
        _rename(graph, names, chance)
        _shuffle(graph, chance)
    copy.graph.name = f"g{chance.randrange(10**6)}"
    return copy


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)


def _rename(graph: onnx.GraphProto, names: dict[str, str], chance: random.Random) -> None:
    def new(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}_{chance.randrange(10**6)}")

    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = new(value.name)
    for index, node in enumerate(graph.node):
        node.input[:] = map(new, node.input)
        node.output[:] = map(new, node.output)
        node.name = f"n{index}_{chance.randrange(10**6)}"


def _shuffle(graph: onnx.GraphProto, chance: random.Random) -> None:
    """Another topological order, drawn at random."""
    waiting = list(graph.node)
    made = {name for node in waiting for name in node.output if name}
    done: set[str] = set()
    ordered = []
    while waiting:
        ready = [node for node in waiting if not (_reads(node) & made) - done]
        node = chance.choice(ready)
        waiting = [other for other in waiting if other is not node]
        done.update(node.output)
        ordered.append(node)
    copies = [onnx.NodeProto() for _ in ordered]
    for copy, node in zip(copies, ordered, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def _reads(node: onnx.NodeProto) -> set[str]:
    """What the node and the graphs that it carries read."""
    inner = [
        graph
        for attribute in node.attribute
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    ]
    found = set(node.input)
    for graph in inner:
        found |= {output.name for output in graph.output}
        for child in graph.node:
            found |= _reads(child)
    return found
