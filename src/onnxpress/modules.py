"""Which module of the user's own program a node comes from, as far as exporters tell.

PyTorch's newer exporter writes it into the node's metadata, its older one into the node's name
(``/encoder/layer.0/attention/MatMul``), and tf2onnx keeps TensorFlow's name scopes.
"""

from __future__ import annotations

import ast

import onnx_ir as ir

SCOPES, NAMESPACE = "pkg.torch.onnx.name_scopes", "namespace"
"""Of ``torch.onnx``: a Python list of modules, and ``module: class/module: class``; each ends
with the operator itself."""


NOWHERE = "_empty_nn_module_stack"
"""How ``torch.export`` begins the scope of what it made itself."""


def module_of(node: ir.Node) -> str:
    """``encoder.layer.0.attention``; empty for the outermost module, or where nothing tells."""
    found = _told(node)
    return "" if found.startswith(NOWHERE) else found


def _told(node: ir.Node) -> str:
    told = node.metadata_props
    if SCOPES in told:
        try:
            scopes = ast.literal_eval(told[SCOPES])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            scopes = None
        if isinstance(scopes, list):
            return str(scopes[-2]) if len(scopes) > 1 else ""
    if NAMESPACE in told:
        parts = told[NAMESPACE].split("/")
        return parts[-2].partition(":")[0].strip() if len(parts) > 1 else ""
    return _scope(node.name or "")


def _scope(name: str) -> str:
    """The module in a node's name."""
    if not name.startswith("/"):
        return name.rpartition("/")[0]  # TensorFlow's scopes, written as it writes them
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        # Children of a Sequential repeat its name: /layer1/layer1.0/conv.
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


def inherit(node: ir.Node, old: ir.Node) -> ir.Node:
    """``node``, which stands for ``old`` or serves it, with the metadata of ``old``."""
    for key, value in old.metadata_props.items():
        node.metadata_props.setdefault(key, value)
    return node
