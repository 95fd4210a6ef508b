"""``If`` with a known condition: the live branch takes its place."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import onnx_ir as ir

from onnxpress.values import Names, all_values, constant, discard, forward, is_op


def inline_branches(model: ir.Model) -> int:
    """``If(c)`` → the branch that the constant ``c`` chooses, inner ones first: how many."""
    found = [
        (node, constant(node.inputs[0]))
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if is_op(node, "If")
    ]
    known = [(node, value) for node, value in found if value is not None and value.size == 1]
    names = Names(model)
    for node, condition in reversed(known):
        _inline(node, "then_branch" if condition.item() else "else_branch", names)
    return len(known)


def _inline(node: ir.Node, live: str, names: Names) -> None:
    graph, branch = node.graph, node.attributes[live].as_graph()
    assert graph is not None
    results = list(branch.outputs)
    branch.outputs.clear()
    for value in all_values((branch, *branch.subgraphs())):
        if value.name and names.is_shared(value.name):
            _rename(value, names.fresh(value.name))
    for initializer in list(branch.initializers.values()):
        assert initializer.name is not None
        del branch.initializers[initializer.name]
        graph.register_initializer(initializer)
    body, taken = list(branch), {each.name for each in graph}
    branch.remove(body)
    node.prepend(body)
    for each in body:
        each.name = _free(each.name, taken)
        taken.add(each.name)
    for old, new in zip(node.outputs, results, strict=True):
        if not forward(old, new):
            copy = ir.node("Identity", [new])
            node.prepend(copy)
            forward(old, copy.outputs[0])
    discard(node)


def _free(name: str | None, taken: Collection[str | None]) -> str | None:
    """``name``, or one made from it: two nodes of a graph have no name in common."""
    if not name or name not in taken:
        return name
    return next(new for i in itertools.count(1) if (new := f"{name}_{i}") not in taken)


def _rename(value: ir.Value, name: str) -> None:
    """Rename without touching the tensor, which other clones of the model share."""
    tensor, value.const_value = value.const_value, None
    value.name = name
    value.const_value = tensor
