"""A shift and a scale of channels, taken into the constants of what computes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxpress.quantization import add_constant, constant_weight, linear_refusal
from onnxpress.values import Names, constant, is_op

Edit = tuple[ir.Node, int, np.ndarray]


def edits(
    value: ir.Value, readers: Collection[ir.Node], shift: np.ndarray, scale: np.ndarray
) -> list[Edit] | None:
    """What turns ``value`` into ``(value - shift) / scale``, where only ``readers`` read it.

    Nodes with the input that gets a new constant. Both arrays are float32 (channels of the last
    axis), ``scale`` is positive. LayerNormalization, MatMul, Gemm, Mul and Add with constants take
    them; a ReLU lets a scale through. None where what computes ``value`` is something else.
    """
    if any(user not in readers or index for user, index in value.uses()):
        return None
    return _edits(value, shift, scale)


def write(graph: ir.Graph, names: Names, found: Iterable[Edit]) -> None:
    """Give the nodes their new constants."""
    for node, index, array in found:
        old = node.inputs[index]
        assert old is not None
        new = add_constant(graph, names, f"{old.name}_smooth", array.astype(np.float32))
        node.replace_input_with(index, new)


def _edits(value: ir.Value, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    """The constants of the nodes before ``value`` that change; None where they cannot."""
    node = value.producer()
    if node is None or value.is_graph_output() or value is not node.outputs[0]:
        return None
    for operator, rule in RULES.items():
        if is_op(node, operator):
            return rule(node, shift, scale)
    return None


def _relu(node: ir.Node, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    return None if shift.any() else _before(node, 0, scale)


def _add(node: ir.Node, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    for index in (0, 1):
        bias, others = _per_channel(node, index, scale), _before(node, 1 - index, scale)
        if bias is not None and others is not None:
            return [(node, index, (bias - shift) / scale), *others]
    return None


def _mul(node: ir.Node, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    for index in (0, 1):
        factors = _per_channel(node, index, scale)
        if factors is not None and not shift.any():
            return [(node, index, factors / scale)]
    return None


def _layer_norm(node: ir.Node, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    factors = _per_channel(node, 1, scale)
    if factors is None or node.attributes.get_int("axis", -1) != -1:
        return None
    return _scaled(node, factors / scale, shift, scale)


def _product(node: ir.Node, shift: np.ndarray, scale: np.ndarray) -> list[Edit] | None:
    weight = constant_weight(node)
    if weight is None or linear_refusal(node, weight):
        return None
    turned = is_op(node, "Gemm") and bool(node.attributes.get_int("transB", 0))
    return _scaled(node, weight / (scale[:, None] if turned else scale), shift, scale)


RULES: Mapping[str, Callable[[ir.Node, np.ndarray, np.ndarray], list[Edit] | None]] = {
    "Add": _add,
    "Gemm": _product,
    "LayerNormalization": _layer_norm,
    "MatMul": _product,
    "Mul": _mul,
    "Relu": _relu,
}


def _before(node: ir.Node, index: int, scale: np.ndarray) -> list[Edit] | None:
    """Of what ``node`` reads, where nothing else does."""
    value = node.inputs[index]
    if value is None or len(list(value.uses())) != 1:
        return None
    return _edits(value, np.zeros_like(scale), scale)


def _scaled(
    node: ir.Node, weight: np.ndarray, shift: np.ndarray, scale: np.ndarray
) -> list[Edit] | None:
    """``weight`` for what ``node`` multiplies by, and its bias shifted and scaled."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None if shift.any() else [(node, 1, weight)]
    bias = _per_channel(node, 2, scale)
    return None if bias is None else [(node, 1, weight), (node, 2, (bias - shift) / scale)]


def _per_channel(node: ir.Node, index: int, scale: np.ndarray) -> np.ndarray | None:
    """A constant input with one float32 number for each channel."""
    array = constant(node.inputs[index])
    fits = array is not None and array.dtype == np.float32 and array.shape == scale.shape
    return array if fits else None
