"""Two linear operators with nothing between them but what a factor per channel passes through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.passes._layouts import axes_of
from onnxpress.passes._linear import Linear
from onnxpress.quantization import constant_weight, linear_refusal
from onnxpress.recipe import Missed
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op, name_of

FIRST, SECOND = ("Conv", "ConvTranspose", "Gemm"), ("Conv", "Gemm")
ACTIVATIONS = ("Identity", "LeakyRelu", "PRelu", "Relu")
"""f(s·x) = s·f(x) for s > 0, element by element."""
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
REDUCTIONS = ("ReduceMax", "ReduceMean")
VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
BETWEEN = (*ACTIVATIONS, *POOLS, *REDUCTIONS, *VIEWS, "Clip")


@dataclass(frozen=True)
class Pair:
    """``second`` reads what ``first`` makes, each channel of it as ``repeats`` inputs in a row."""

    first: Linear
    second: Linear
    repeats: int

    @property
    def nodes(self) -> tuple[str, str]:
        return name_of(self.first.node), name_of(self.second.node)

    def missed(self, why: str, blocking: str = "") -> Missed:
        """That the ranges of the two stay as they are."""
        return Missed("equalisation", self.nodes, why, blocking)


def pair_before(node: ir.Node, shapes: Shapes) -> Pair | Missed | None:
    """The pair that ``node`` ends, or why it ends none; None where no other comes before it."""
    weight = constant_weight(node)
    if weight is None or not is_op(node, *SECOND) or linear_refusal(node, weight):
        return None
    why, blocking, last = "", "", node
    while last is node or is_op(last, *BETWEEN):
        value = last.inputs[0]
        before = None if value is None else value.producer()
        if value is None or before is None or before.graph is not node.graph:
            return None
        found = _reason(value, before, shapes)
        if found and not why:
            why, blocking = found, name_of(before)
        last = before
    if not is_op(last, *FIRST) or constant_weight(last) is None:
        return None
    first, second = Linear.of(last), Linear.of(node)
    if isinstance(first, str) or isinstance(second, str):
        return None
    pair = Pair(first, second, second.inputs // first.outputs)
    why = why or _unfit(pair)
    return pair.missed(why, blocking) if why else pair


def _reason(value: ir.Value, producer: ir.Node, shapes: Shapes) -> str:
    """Why no factor passes through ``producer`` to what reads ``value``; empty where it does."""
    others = [output for output in producer.outputs if output is not value]
    if any(output.uses() or output.is_graph_output() for output in others):
        return f"another output of the {producer.op_type} is read"
    if value.is_graph_output():
        return "what lies between is an output of the graph"
    if len(value.uses()) > 1:
        return "another node reads what lies between"
    return _cut(producer) if is_op(producer, "Clip") else _mixed(producer, shapes)


def _mixed(producer: ir.Node, shapes: Shapes) -> str:
    """Why ``producer`` does not keep channels apart."""
    if is_op(producer, *VIEWS) and not _keeps_channels(producer, shapes):
        return f"the {producer.op_type} moves channels"
    if is_op(producer, *REDUCTIONS):
        shape = shapes.shape(producer.inputs[0])
        axes = None if shape is None else axes_of(producer, len(shape))
        if axes is None or min(axes, default=0) < 2:
            return f"the {producer.op_type} may reduce channels"
    return ""


def _cut(node: ir.Node) -> str:
    """Why ``node`` is no Relu in other words."""
    bounds = []
    for index, nothing in ((1, -math.inf), (2, math.inf)):
        given = node.inputs[index] if len(node.inputs) > index else None
        number = constant(given)
        if given is not None and (number is None or number.size != 1):
            return "the bounds of the Clip are computed"
        bounds.append(nothing if number is None else float(number.reshape(-1)[0]))
    for index, name in enumerate(("min", "max")):  # of opset 6
        bounds[index] = node.attributes.get_float(name, bounds[index])
    wrong = [bound for bound in bounds if bound != 0 and math.isfinite(bound)]
    return f"the Clip between them cuts at {wrong[0]:g}" if wrong else ""


def _keeps_channels(node: ir.Node, shapes: Shapes) -> bool:
    """Whether axis 1 stays, or all that follows it is put into it, channel by channel."""
    before, after = shapes.shape(node.inputs[0]), shapes.shape(node.outputs[0])
    if before is None or after is None or min(len(before), len(after)) < 2:
        return False
    return before[0] == after[0] and (len(after) == 2 or before[1] == after[1])


def _unfit(pair: Pair) -> str:
    first, second = pair.first, pair.second
    if second.inputs != pair.repeats * first.outputs:
        return "the channels of one are not those of the other"
    if pair.repeats > 1 and second.groups > 1:
        return "its groups share channels"
    if first.shift() is None:
        return "its bias is not constant, or not one number per channel"
    for linear in (first, second):
        weight = linear.node.inputs[1]
        assert weight is not None
        if len(weight.uses()) > 1:
            return "other nodes read the same weights"
    return ""
