"""Our graphs in skl2onnx's container."""

from __future__ import annotations

from typing import Any

from onnx import helper

from onnxpress.trees.graph import ML_DOMAIN, ML_OPSET, Graph


def put(graph: Graph, container: Any) -> None:
    """Add the nodes and constants of ``graph``."""
    container.initializers.extend(graph.constants)
    for node in graph.nodes:
        fields = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        container.add_node(
            node.op_type, list(node.input), list(node.output), op_domain=node.domain,
            op_version=ML_OPSET if node.domain == ML_DOMAIN else None, name=node.name, **fields,
        )  # fmt: skip


class Wrapped:
    """skl2onnx's container, in which some nodes become others."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
