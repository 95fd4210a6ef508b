"""Outliers as trained networks have them: one channel that is far larger than the others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.quantization import add_constant
from onnxpress.values import Names


def with_outlier(
    model: Model, layer: int, factor: float, *, fixed: bool = False
) -> tuple[Model, str]:
    """One channel of the ``layer``-th Conv ``factor`` times as large, undone by what reads it.

    The answers stay as they are, since ReLU and scaling commute. ``fixed`` makes the ReLU a Clip
    at a number that nothing reaches, which no pass may scale.
    """
    clone = model.clone()
    convolutions = [node for node in clone.ir.graph if node.op_type == "Conv"]
    node = convolutions[layer]
    reader = next(
        other
        for other in clone.ir.graph
        if other is not node and _reaches(node, other) and other.op_type == "Conv"
    )
    for index, along in ((1, 0), (2, 0)):
        _scale(clone, node, index, along, factor)
    _scale(clone, reader, 1, 1, 1 / factor)
    if fixed:
        _clip(clone, reader)
    return clone, str(node.name)


def _reaches(node: ir.Node, other: ir.Node) -> bool:
    """Whether ``other`` reads ``node`` directly, or through one ReLU."""
    users = [user for user, _ in node.outputs[0].uses()]
    users += [
        user for relu in users if relu.op_type == "Relu" for user, _ in relu.outputs[0].uses()
    ]
    return other in users


def _clip(model: Model, reader: ir.Node) -> None:
    """A Clip in the place of the Relu that ``reader`` reads."""
    value = reader.inputs[0]
    assert value is not None
    relu = value.producer()
    assert relu is not None
    assert relu.op_type == "Relu"
    names = Names(model.ir)
    bounds = [
        add_constant(model.ir.graph, names, f"bound{number:g}", np.array(number, np.float32))
        for number in (0, 1e6)
    ]
    clip = ir.node("Clip", [relu.inputs[0], *bounds], name=relu.name)
    clip.outputs[0].name = names.fresh("clipped")
    relu.prepend([clip])
    value.replace_all_uses_with(clip.outputs[0])
    model.ir.graph.remove(relu, safe=True)


def _scale(model: Model, node: ir.Node, index: int, axis: int, factor: float) -> None:
    value = node.inputs[index]
    assert value is not None
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    where = [slice(None)] * array.ndim
    where[axis] = slice(3, 4)
    array[tuple(where)] *= factor
    value.const_value = ir.tensor(array, name=value.name)
