"""Operators that PyTorch's exporter does not know, and the user's ONNX functions for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping

import torch

from onnxpress.errors import SourceError
from onnxpress.sources._torch.example import Example

TABLE = "custom_translation_table"

Translations = Mapping[Callable[..., object], Callable[..., object]]
"""Operator, such as ``torch.ops.mylib.clip.default`` → the onnxscript function that computes it."""

UNKNOWN = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)', overload='(\w+)'\)>")


def translations_of(module: str) -> Translations:
    """``custom_translation_table`` of an imported Python module; empty where it has none.

    Raises ``SourceError`` where that is no dict from operators to functions.
    """
    table = getattr(sys.modules.get(module), TABLE, {})
    if not isinstance(table, dict) or not all(map(callable, [*table, *table.values()])):
        raise SourceError(
            f"{TABLE} of {module} is {type(table).__name__}",
            "a dict of torch.ops.LIBRARY.OPERATOR.default: onnxscript function",
        )
    return {operator: _traceable(function) for operator, function in table.items()}


def _traceable(function: Callable[..., object]) -> Callable[..., object]:
    """A scripted function without annotations counts as one without outputs: its plain Python."""
    signature = getattr(function, "op_signature", None)
    untold = signature is not None and not signature.outputs
    return getattr(function, "function", function) if untold else function


def refuse_unknown(error: BaseException, module: torch.nn.Module, example: Example) -> None:
    """Raise ``SourceError`` where ``error`` is for want of an ONNX form of a custom operator.

    It names the operator and the layer that calls it. PyTorch's own operators are left to the
    other exporter.
    """
    found = None
    cause: BaseException | None = error
    while cause is not None and found is None:
        found, cause = UNKNOWN.search(str(cause)), cause.__cause__
    if found is None or found[1].startswith(("aten.", "prims.")):
        return
    operator = f"{found[1]}.{found[2]}"
    layer = _caller(operator, module, example)
    raise SourceError(
        f"PyTorch's exporter knows no ONNX form of the operator {found[1].replace('.', '::')}"
        f"{f', which the layer {layer} calls' if layer else ''}",
        "an onnxscript function that computes it",
        f"write {TABLE} = {{torch.ops.{operator}: FUNCTION}} beside the factory",
    )


def _caller(operator: str, module: torch.nn.Module, example: Example) -> str:
    """``blocks.0 (Block)``: the path and class of the first layer that calls ``operator``."""
    args = () if example.keywords else tuple(example.tensors.values())
    kwargs = dict(example.tensors) if example.keywords else None
    for node in torch.export.export(module, args, kwargs).graph.nodes:
        if str(node.target) == operator and node.meta.get("nn_module_stack"):
            path, kind = list(node.meta["nn_module_stack"].values())[-1]
            name = str(kind).rpartition(".")[2]
            return f"{path} ({name})" if path else name
    return ""
