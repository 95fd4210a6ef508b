"""What is known of a graph's values without running it, and how one value takes another's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

STANDARD = ("", "ai.onnx")
"""The two spellings of the domain of ONNX's own operators."""
FREE_INITIALIZERS = 4
"""The first IR version whose initializers need not be inputs as well."""


def is_op(node: ir.Node, *op_types: str) -> bool:
    """Whether ``node`` is one of ONNX's own operators, called one of ``op_types``."""
    return node.domain in STANDARD and node.op_type in op_types


def name_of(node: ir.Node) -> str:
    """How ``node`` is called: by its name, or by its first output where it has none."""
    return node.name or str(node.outputs[0].name)


def name_nodes(model: ir.Model) -> None:
    """Give every node a name of its own, those of subgraphs too; the first of a name keeps it.

    What had none is called as ``name_of`` called it.
    """
    nodes = [node for graph in model.graphs() for node in graph]
    nameless = [node for node in nodes if not node.name]
    NameFixPass()(model)  # of values
    for node in nameless:
        node.name = node.outputs[0].name
    taken = Counter[str]()
    for node in nodes:
        stem = name = node.name or node.op_type
        while taken[name]:
            taken[stem] += 1
            name = f"{stem}_{taken[stem]}"
        taken[name] += 1
        node.name = name


def opset(model: ir.Model) -> int:
    """The version of ONNX's own operators that the model uses; 0 where it imports none."""
    return next((model.opset_imports[name] for name in STANDARD if name in model.opset_imports), 0)


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that ``node`` carries: branches, loop bodies."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a ``Constant`` node, None for everything else.

    An initializer that is also an input is a default that the caller may override: no constant.
    """
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    producer = value.producer()
    if producer is None or not is_op(producer, "Constant"):
        return None
    for name, kind in (("int", np.int64), ("float", np.float32)):
        for attribute in (f"value_{name}", f"value_{name}s"):
            found = producer.attributes.get(attribute)
            if found is not None and not found.is_ref():
                return ir.tensor(np.array(found.value, kind), name=value.name)
    attr = producer.attributes.get("value")
    return None if attr is None or attr.is_ref() else attr.as_tensor()


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initializer or of a ``Constant`` node, None for everything else."""
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def all_values(graphs: Iterable[ir.Graph]) -> Iterator[ir.Value]:
    """Inputs, initializers and node outputs; an initializer that is an input comes twice."""
    for graph in graphs:
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def forward(old: ir.Value, new: ir.Value) -> bool:
    """Let ``new`` stand wherever ``old``, the output of a node, stands now.

    A graph output keeps its name, type and shape: ``new`` takes them over. That needs ``new`` to
    be computed in the same graph and to be no output itself; where it is not, nothing happens
    and the answer is False.
    """
    if not can_forward(old, new):
        return False
    if old.is_graph_output():
        graph = old.graph
        assert graph is not None
        name, old.name = old.name, None
        new.name, new.type, new.shape = name, old.type, old.shape
        graph.outputs[list(graph.outputs).index(old)] = new
    old.replace_all_uses_with(new)
    return True


def can_forward(old: ir.Value, new: ir.Value) -> bool:
    """Whether ``forward(old, new)`` is possible."""
    if not old.is_graph_output():
        return True
    graph, producer = old.graph, new.producer()
    return (
        producer is not None
        and producer.graph is graph
        and not new.is_graph_output()
        and graph is not None
        and sum(output is old for output in graph.outputs) == 1
    )


class Names:
    """The names of a model's values, and names that none has yet."""

    def __init__(self, model: ir.Model) -> None:
        self._uses = Counter(value.name for value in all_values(model.graphs()))

    def fresh(self, stem: str) -> str:
        """``stem``, or ``stem`` with the first number that makes it new."""
        name, count = stem, 1
        while self._uses[name]:
            name, count = f"{stem}_{count}", count + 1
        self._uses[name] += 1
        return name

    def is_shared(self, name: str | None) -> bool:
        """Whether several values have this name: two branches may each have their own ``x``."""
        return self._uses[name] > 1


def add_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new constant of ``graph``; its shape and type are the tensor's."""
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def discard(node: ir.Node) -> int:
    """Remove ``node``, whose outputs nothing reads, and the constants that only it read.

    Also ends what the graphs that it carries read around them. How many constants went.
    """
    graph, inputs = node.graph, list(node.inputs)
    assert graph is not None
    for inner in (child for branch in subgraphs(node) for child in branch.all_nodes()):
        inputs.extend(inner.inputs)
        for index in range(len(inner.inputs)):
            inner.replace_input_with(index, None)
    graph.remove(node, safe=True)
    return drop_unused(inputs)


def drop_unused(values: Iterable[ir.Value | None]) -> int:
    """Remove those of ``values`` that are initializers which nothing reads; how many were."""
    dropped = 0
    for value in dict.fromkeys(values):
        if value is None or value.graph is None or not value.is_initializer():
            continue
        if value.uses() or value.is_graph_input() or value.is_graph_output():
            continue
        assert value.name is not None
        del value.graph.initializers[value.name]
        dropped += 1
    return dropped
