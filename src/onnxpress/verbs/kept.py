"""Which layers of a quantised model stayed in float, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.values import constant_tensor, is_op, name_of
from onnxpress.verbs.schemes import LINEAR, Scheme

RECURRENT = ("GRU", "LSTM", "RNN")


def kept_float(
    scheme: Scheme, model: Model, refusals: Iterable[str], chosen: Mapping[str, str]
) -> dict[str, str]:
    """Name of a node → the reason: ``chosen`` ones, what a pass refused, and all others.

    ``refusals`` begin with the name of a node and ``: ``; those of no node are left out.
    """
    told = {}
    for text in refusals:
        name, _, why = text.partition(": ")
        if why and name not in chosen:
            told[name] = why
    for node, inner in _linear(model.ir.graph):
        name = name_of(node)
        if name not in told and name not in chosen:
            told[name] = _why(scheme, node, inner=inner)
    return told | dict(chosen)


def _linear(graph: ir.Graph) -> Iterator[tuple[ir.Node, bool]]:
    """Operators that multiply by float32 constants, and whether they are in a subgraph."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if is_op(node, *LINEAR, *RECURRENT) and any(map(_is_weight, node.inputs[:2])):
            yield node, node.graph is not graph


def _is_weight(value: ir.Value | None) -> bool:
    tensor = constant_tensor(_before_transpose(value))
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) > 1


def _before_transpose(value: ir.Value | None) -> ir.Value | None:
    """What is transposed as the model runs, such as a table of words that is tied to the output."""
    node = None if value is None else value.producer()
    return node.inputs[0] if node is not None and is_op(node, "Transpose") else value


def _why(scheme: Scheme, node: ir.Node, *, inner: bool) -> str:
    if not is_op(node, *scheme.operators):
        return f"scheme {scheme.name} is not about {node.op_type}"
    if inner:
        return "it is in a subgraph"
    tensor = constant_tensor(node.inputs[1])
    if tensor is None and _is_weight(node.inputs[1]):
        return "its weights are transposed as the model runs"
    if tensor is None:
        return "its constant is on the left"
    if not np.isfinite(tensor.numpy()).all():
        return "its weights are not finite"
    return "no integers stand for it"
