"""Nodes that change nothing: no-ops, which give back what they got, and dead ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxpress.shape_rules import slices
from onnxpress.shapes import Shapes
from onnxpress.values import constant, is_op, opset, subgraphs
from onnxpress.views import RESHAPES

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1}
"""Operator → the constant that changes nothing; first operands of Add and Mul may be it, too."""
COMMUTATIVE = ("Add", "Mul")
BROADCAST_OPSET = 7
"""The first opset whose arithmetic broadcasts as NumPy's does."""
DROPOUT_INPUT_OPSET = 12
"""The first opset whose Dropout takes ``training_mode`` as an input."""
DROPOUT_INFERENCE_OPSET = 7
"""The first opset whose Dropout has no ``is_test`` and, up to the one above, never drops."""


def dead_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes that no output depends on, from the last to the first.

    Of a dead node that carries graphs, only the node itself.
    """
    dead: list[ir.Node] = []
    gone: set[ir.Node] = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph, reverse=True):
        read = any(user not in gone for value in node.outputs for user, _ in value.uses())
        if node in gone or read or any(value.is_graph_output() for value in node.outputs):
            continue
        dead.append(node)
        gone.add(node)
        for graph in subgraphs(node):
            gone.update(ir.traversal.RecursiveGraphIterator(graph))
    return dead


def everywhere(value: ir.Value | None, number: float) -> bool:
    """Whether every element is ``number``: of a constant, or of one number in any shape.

    Zero times zero is known, too: what ``torch.baddbmm`` adds if its ``beta`` is zero.
    """
    array = constant(value)
    if array is not None:
        return bool(array.size) and bool(np.all(array == number))
    node = None if value is None else value.producer()
    if node is None:
        return False
    if is_op(node, "ConstantOfShape"):
        filled = node.attributes.get("value")
        return bool((0 if filled is None else filled.as_tensor().numpy()) == number)
    if is_op(node, "Mul") and number == 0:
        return all(everywhere(side, 0) for side in node.inputs)
    return is_op(node, "Expand") and everywhere(node.inputs[0], number)


class NoOps:
    """Knows which nodes of ``model`` are no-ops. Valid until the model changes."""

    def __init__(self, model: ir.Model) -> None:
        self._inferred = Shapes(model)
        self._opset = opset(model)

    def find(self, node: ir.Node) -> tuple[ir.Value, str] | None:
        """The input that the first output of ``node`` always equals, and why; None elsewhere."""
        data = node.inputs[0] if node.inputs else None
        if is_op(node, *NEUTRAL):
            return self._arithmetic(node)
        if data is None:
            return None
        why = ""
        if is_op(node, "Identity"):
            why = "copies its input"
        elif is_op(node, "Dropout") and self._is_off(node):
            why = "drops nothing at inference"
        elif is_op(node, "Cast") and self._same_type(node, data):
            why = "casts to the type that its input has"
        elif is_op(node, "Transpose") and self._in_order(node):
            why = "keeps the order of the dimensions"
        elif is_op(node, *RESHAPES) and self._same_shape(node, data):
            why = "reshapes to the shape that its input has"
        elif is_op(node, "Expand", "Slice", "Tile", "Pad") and self._keeps_all(node, data):
            why = "gives its input the shape that it has"
        elif is_op(node, "Concat", "Max", "Min", "Mean", "Sum") and len(node.inputs) == 1:
            why = "has one input only"
        return (data, why) if why else None

    def _arithmetic(self, node: ir.Node) -> tuple[ir.Value, str] | None:
        if self._opset < BROADCAST_OPSET or len(node.inputs) != 2:
            return None
        for index in (1, 0) if is_op(node, *COMMUTATIVE) else (1,):
            data, other = node.inputs[1 - index], node.inputs[index]
            neutral = NEUTRAL[node.op_type]
            if data is not None and everywhere(other, neutral) and self._fits(other, data):
                return data, f"{node.op_type} with {neutral}"
        return None

    def _fits(self, other: ir.Value | None, data: ir.Value) -> bool:
        """Whether ``data`` keeps its shape next to ``other``."""
        shape, small = self._inferred.shape(data), self._inferred.shape(other)
        if small == ():
            return True
        return (
            shape is not None
            and small is not None
            and len(small) <= len(shape)
            and all(
                have in (1, want)
                for want, have in zip(reversed(shape), reversed(small), strict=False)
            )
        )

    def _is_off(self, node: ir.Node) -> bool:
        mask_used = any(out.uses() or out.is_graph_output() for out in node.outputs[1:])
        if mask_used:
            return False
        if self._opset < DROPOUT_INFERENCE_OPSET:
            return node.attributes.get_int("is_test", 0) == 1
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if self._opset < DROPOUT_INPUT_OPSET or training is None:
            return True
        mode = constant(training)
        return mode is not None and not mode.any()

    def _same_type(self, node: ir.Node, data: ir.Value) -> bool:
        to, dtype = node.attributes.get("to"), self._inferred.dtype(data)
        # Before opset 6 `to` was a string.
        return to is not None and to.type == ir.AttributeType.INT and to.as_int() == dtype

    def _in_order(self, node: ir.Node) -> bool:
        perm = node.attributes.get("perm")
        if perm is None or perm.is_ref():
            return False
        order = list(perm.as_ints())
        return order == sorted(order)

    def _same_shape(self, node: ir.Node, data: ir.Value) -> bool:
        before, after = self._inferred.shape(data), self._inferred.shape(node.outputs[0])
        return before is not None and before == after

    def _keeps_all(self, node: ir.Node, data: ir.Value) -> bool:
        """Of equal shapes: whether every element stays where it is."""
        if not self._same_shape(node, data):
            return False
        if is_op(node, "Slice"):
            parts = slices(self._inferred, node)
            return parts is not None and all(step > 0 for _, _, step in parts.values())
        if is_op(node, "Pad"):
            pads = self._inferred.elements(node.inputs[1]) if len(node.inputs) > 1 else None
            return pads is not None and all(pad == 0 for pad in pads.flat)
        return True
