"""Operators that PyTorch's exporter does not know, and the user's ONNX functions for them."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch

from onnxpress.errors import SourceError
from onnxpress.sources._torch.example import Example

TABLE = "custom_translation_table"

Translations = Mapping[Callable[..., object], Callable[..., object]]
"""An operator such as ``torch.ops.mylib.clip.default`` → the onnxscript function for it."""

UNKNOWN = re.compile(
    r"No ONNX function found for <OpOverload\(op='([\w.]+)', overload='(\w+)'\)>"
    r"|operator 'aten::(\w+)'"
)
"""How dynamo and TorchScript say it."""


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
    for operator in _unknown(error):
        library, name, _ = operator.split(".")
        if library in ("aten", "prims"):
            continue
        layer = _caller({name}, module, example)
        raise SourceError(
            f"PyTorch's exporter knows no ONNX form of the operator {library}::{name}"
            f"{f', which the layer {layer} calls' if layer else ''}",
            "an onnxscript function that computes it",
            f"write {TABLE} = {{torch.ops.{operator}: FUNCTION}} beside the factory",
        )


def culprit(errors: Iterable[BaseException], module: torch.nn.Module, example: Example) -> str:
    """``the layer blocks.1 (Block) of Net``: what exporters could not follow.

    The layer is the one that calls an operator that they do not know, or the innermost that ran.
    """
    model = getattr(module, "inner_class", type(module).__name__)
    errors, layer = list(errors), ""
    names = {operator.split(".")[1] for error in errors for operator in _unknown(error)}
    with contextlib.suppress(Exception):  # what cannot be traced has no graph to look in
        layer = _caller(names, module, example) if names else ""
    layer = layer or next(filter(None, (_running(error, module) for error in errors)), "")
    return f"the layer {layer} of {model}" if layer else model


def _unknown(error: BaseException) -> Iterator[str]:
    """The operators that ``error`` or a cause of it says are unknown: ``aten.abs.default``."""
    for cause in _causes(error):
        for overload, name, plain in UNKNOWN.findall(str(cause)):
            yield f"{overload}.{name}" if overload else f"aten.{plain}.default"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _caller(operators: set[str], module: torch.nn.Module, example: Example) -> str:
    """``blocks.0 (Block)``: the path and class of the first layer that calls one of them."""
    args = () if example.keywords else tuple(example.tensors.values())
    kwargs = dict(example.tensors) if example.keywords else None
    for node in torch.export.export(module, args, kwargs).graph.nodes:
        name = str(node.target).split(".")[1:2]
        if operators.issuperset(name) and name and node.meta.get("nn_module_stack"):
            path, kind = list(node.meta["nn_module_stack"].values())[-1]
            return f"{path} ({str(kind).rpartition('.')[2]})" if path else ""
    return ""


def _running(error: BaseException, module: torch.nn.Module) -> str:
    """The innermost layer in the traceback of ``error`` or of what caused it."""
    paths = {id(layer): path for path, layer in module.named_modules()}
    found = ""
    for cause in _causes(error):
        for frame, line in traceback.walk_tb(cause.__traceback__):
            layer = frame.f_locals.get("self")
            if paths.get(id(layer)):
                where = f"{Path(frame.f_code.co_filename).name}:{line}"
                found = f"{paths[id(layer)]} ({type(layer).__name__}) at {where}"
    return found
