"""Initial states of recurrent layers that are zeros, which they are by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._rewriting import sweep
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import constant, drop_unused, is_op

STATES = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
"""Operator → the inputs that are initial states."""
MOVING = (
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators that give zeros of zeros."""


@dataclass(frozen=True)
class EliminateZeroStates(Pass):
    """``LSTM(x, W, R, b, lengths, 0, 0)`` → ``LSTM(x, W, R, b, lengths)``; GRU and RNN likewise."""

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        for node in list(model.nodes()):
            if not is_op(node, *STATES):
                continue
            for place in STATES[node.op_type]:
                value = node.inputs[place] if place < len(node.inputs) else None
                if value is not None and _is_zero(value):
                    node.replace_input_with(place, None)
                    drop_unused([value])
                    rewrites += 1
            while node.inputs and node.inputs[-1] is None:
                node.resize_inputs(len(node.inputs) - 1)
        if rewrites:
            sweep(model.ir)
        return Change(rewrites)


def _is_zero(value: ir.Value) -> bool:
    """Whether all that ``value`` can hold is zeros."""
    array, node = constant(value), value.producer()
    if array is not None:
        return not array.any()
    if node is None:
        return False
    if is_op(node, "ConstantOfShape"):
        filling = node.attributes.get("value")
        return filling is None or not filling.as_tensor().numpy().any()
    moved = node.inputs if is_op(node, "Concat") else node.inputs[:1]
    return is_op(node, *MOVING) and all(each is not None and _is_zero(each) for each in moved)
