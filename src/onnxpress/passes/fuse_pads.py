"""Padding before a convolution or a pool into its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import constant, discard, is_op, name_of, opset

PAD_INPUTS_OPSET = 11
"""The first opset whose Pad takes its numbers as inputs."""
OPERATORS = ("AveragePool", "Conv", "MaxPool")
NON_NEGATIVE = ("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus")
AXES = 3
"""The input of Pad that names the dimensions."""


@dataclass(frozen=True)
class FusePads(Pass):
    """``Conv(Pad(x, p), W, pads=q)`` → ``Conv(x, W, pads=p+q)``, where Pad writes zeros.

    Also before AveragePool, which counts them then, and before MaxPool where the zeros cannot win:
    behind a Relu and its like, or where Pad writes -∞. Only spatial dimensions, only where all that
    read the Pad can take it, and of pools less than their window.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < PAD_INPUTS_OPSET:
            return Change()
        shapes = Shapes(model.ir)
        missed, rewrites = [], 0
        for graph in model.ir.graphs():
            for node in reversed(list(graph)):
                if not is_op(node, "Pad") or not any(is_op(u, *OPERATORS) for u in _readers(node)):
                    continue
                try:
                    _fuse(node, shapes)
                    rewrites += 1
                except _Refusal as refusal:
                    user = next(user for user in _readers(node) if is_op(user, *OPERATORS))
                    names = (name_of(user), name_of(node))
                    kind = f"{user.op_type} with Pad"
                    missed.append(Missed(kind, names, str(refusal), name_of(refusal.node)))
        return Change(rewrites, missed=tuple(missed))


class _Refusal(Exception):
    """Why a Pad stays; ``node`` is in the way."""

    def __init__(self, why: str, node: ir.Node) -> None:
        super().__init__(why)
        self.node = node


def _readers(node: ir.Node) -> list[ir.Node]:
    return [user for user, _ in node.outputs[0].uses()]


def _fuse(node: ir.Node, shapes: Shapes) -> None:
    data = node.inputs[0]
    assert data is not None
    if node.outputs[0].is_graph_output():
        raise _Refusal("it is an output of the graph too", node)
    pads = _pads(node, shapes)
    fused = [_fused(user, place, node, pads) for user, place in node.outputs[0].uses()]
    for user, whole in zip(_readers(node), fused, strict=True):
        user.attributes["pads"] = ir.AttrInt64s("pads", whole.reshape(-1).tolist())
        user.attributes.pop("auto_pad", None)
        if is_op(user, "AveragePool"):
            user.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
        user.replace_input_with(0, data)
    discard(node)


def _pads(node: ir.Node, shapes: Shapes) -> np.ndarray:
    """Of the spatial dimensions, [begin and end, dimensions]."""
    given, shape = constant(node.inputs[1]), shapes.shape(node.inputs[0])
    named = node.inputs[AXES] if len(node.inputs) > AXES else None
    axes = constant(named)
    if node.attributes.get_string("mode", "constant") != "constant":
        raise _Refusal("it does not write one number", node)
    if given is None or shape is None or (named is not None and axes is None):
        raise _Refusal("how much it pads is not known", node)
    rank = len(shape)
    pads = np.zeros((2, rank), np.int64)
    pads[:, list(range(rank) if axes is None else axes)] = given.reshape(2, -1)
    if pads[:, :2].any():
        raise _Refusal("it pads other dimensions than spatial ones", node)
    if (pads < 0).any():
        raise _Refusal("it takes away", node)
    return pads[:, 2:]


def _fused(user: ir.Node, place: int, node: ir.Node, pads: np.ndarray) -> np.ndarray:
    """The pads of ``user`` with those of ``node``."""
    if place != 0 or not is_op(user, *OPERATORS) or user.graph is not node.graph:
        raise _Refusal("another node reads it", user)
    if user.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise _Refusal("what it pads itself depends on the size", user)
    attribute = user.attributes.get("pads")
    own = np.zeros_like(pads) if attribute is None else np.array(attribute.as_ints())
    whole: np.ndarray = own.reshape(pads.shape) + pads
    number = _number(node)
    if is_op(user, "MaxPool"):
        if not (number == -np.inf or (number == 0 and _is_not_negative(node.inputs[0]))):
            raise _Refusal("what it writes may be the largest", node)
    elif number != 0:
        raise _Refusal("it does not write zeros", node)
    if is_op(user, "Conv"):
        return whole
    _require_plain(user)
    counts = user.attributes.get_int("count_include_pad", 0)
    if is_op(user, "AveragePool") and own.any() and not counts:
        raise _Refusal("the pool does not count what it pads itself", user)
    if (whole >= np.array(user.attributes["kernel_shape"].as_ints())).any():
        raise _Refusal("it pads as much as the window, or more", user)
    return whole


def _require_plain(pool: ir.Node) -> None:
    dilations = pool.attributes.get("dilations")
    if pool.attributes.get_int("ceil_mode", 0):
        raise _Refusal("the pool rounds up", pool)
    if dilations is not None and any(step != 1 for step in dilations.as_ints()):
        raise _Refusal("the pool has gaps", pool)
    if any(value.uses() or value.is_graph_output() for value in pool.outputs[1:]):
        raise _Refusal("the places of the largest are read", pool)


def _number(node: ir.Node) -> float | None:
    """What it writes; None where that is not known."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant(given)
    if given is None:
        return 0.0
    return None if array is None else float(array.reshape(-1)[0])


def _is_not_negative(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    if node is None:
        return False
    if is_op(node, "Clip"):
        low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and bool((low >= 0).all())
    return is_op(node, *NON_NEGATIVE)
