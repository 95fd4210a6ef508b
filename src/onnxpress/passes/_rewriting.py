"""One node in the place of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from onnxpress.modules import inherit
from onnxpress.redundancy import dead_nodes
from onnxpress.values import discard

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
CONTRIB_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
"""What those of transformers compute with; some take float64 as well."""

Attribute = int | float | str | Sequence[int]


def replace(
    old: ir.Value,
    op: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Attribute] | None = None,
    *,
    domain: str = "",
    gone: Iterable[ir.Node] = (),
) -> ir.Node:
    """A node ``op`` whose first output is what ``old`` was, name, metadata and all.

    It stands where ``old`` was made. Of ``gone`` those go that nothing reads any more.
    """
    last = old.producer()
    assert last is not None
    assert last.graph is not None
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    node = ir.node(op, given, attributes or {}, domain=domain, name=last.name)
    last.prepend(inherit(node, last))
    take(old, node.outputs[0])
    left = [inner for inner in gone if inner.graph is not None]
    while unread := [inner for inner in left if not _is_read(inner)]:
        for inner in unread:
            discard(inner)
        left = [inner for inner in left if inner not in unread]
    return node


def _is_read(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs)


def sweep(model: ir.Model) -> None:
    """Remove the nodes that no output depends on any more."""
    for node in dead_nodes(model):
        discard(node)


def take(old: ir.Value, new: ir.Value) -> None:
    """Let ``new`` be what ``old`` was: for its readers, as an output, by name, type and shape."""
    new.type, new.shape = old.type, old.shape
    name, old.name = old.name, None
    new.name = name
    graph = old.graph
    if old.is_graph_output():
        assert graph is not None
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new
    old.replace_all_uses_with(new)
