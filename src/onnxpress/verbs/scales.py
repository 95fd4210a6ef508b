"""How a quantised model's tensors are scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.shapes import CONTRIB
from onnxpress.values import STANDARD, constant, constant_tensor, name_of

PLACES = {
    "QuantizeLinear": ((0, 1, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    "DynamicQuantizeLinear": ((0, None, None),),
}
"""Operator → of each of its tensors the inputs that are data (None: the output), scale and zero."""
CONTRIB_PLACES = {
    "QuantizeLinear": ((0, 1, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "MatMulNBits": ((1, 2, 3),),
    "QAttention": ((0, 3, 6), (1, 4, 7)),
    "QLinearAdd": ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    "QLinearMul": ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
}


@dataclass(frozen=True)
class Scale:
    """The scale of one tensor. ``per`` says whether there is one, one a channel, or one a block.

    ``count`` scales lie between ``low`` and ``high`` and their zero points between ``zero_low``
    and ``zero_high``; all are None where they are computed as the model runs. ``weight``: the
    tensor is constant. ``nodes`` have this very scale, ``axis`` is that of the channels.
    """

    tensor: str
    nodes: tuple[str, ...]
    weight: bool
    dtype: str
    per: Literal["tensor", "channel", "block", "computed"]
    axis: int | None
    count: int | None
    low: float | None
    high: float | None
    zero_low: int | None
    zero_high: int | None

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "nodes": list(self.nodes)}


@dataclass(frozen=True)
class _Place:
    """A tensor that a node quantises, or reads quantised."""

    node: ir.Node
    data: ir.Value
    scale: ir.Value | None
    zero: ir.Value | None


def scales(model: Model) -> tuple[Scale, ...]:
    """The scales of ``model``, in the order of its nodes; one row for all nodes that share one."""
    found: dict[object, list[_Place]] = {}
    for node in model.nodes():
        for place in _places(node):
            key = (place.scale, place.zero) if place.scale is not None else place.data
            found.setdefault(key, []).append(place)
    return tuple(map(_scale, found.values()))


def _places(node: ir.Node) -> Iterator[_Place]:
    known = {"": PLACES, CONTRIB: CONTRIB_PLACES}
    domain = "" if node.domain in STANDARD else node.domain
    for data, scale, zero in known.get(domain, {}).get(node.op_type, ()):
        value = node.outputs[0] if data is None else _input(node, data)
        if value is not None:
            yield _Place(node, value, _input(node, scale), _input(node, zero))


def _input(node: ir.Node, index: int | None) -> ir.Value | None:
    return None if index is None or index >= len(node.inputs) else node.inputs[index]


def _scale(places: list[_Place]) -> Scale:
    first = places[0]
    numbers = None if first.scale is None else constant(first.scale)
    zeros = None if first.zero is None else constant(first.zero)
    known = numbers is not None and numbers.size > 0
    floats = numbers.astype(np.float64) if numbers is not None and known else None
    whole = None if zeros is None or not zeros.size else zeros.astype(np.int64)
    per, axis = _spread(first.node, numbers) if numbers is not None and known else ("computed", None)
    default = 0 if first.zero is None and known else None
    return Scale(
        tensor=first.data.name or "",
        nodes=tuple(dict.fromkeys(name_of(place.node) for place in places)),
        weight=constant_tensor(first.data) is not None,
        dtype=_dtype(places),
        per=per,
        axis=axis,
        count=None if floats is None else int(floats.size),
        low=None if floats is None else float(floats.min()),
        high=None if floats is None else float(floats.max()),
        zero_low=default if whole is None else int(whole.min()),
        zero_high=default if whole is None else int(whole.max()),
    )


def _spread(
    node: ir.Node, numbers: np.ndarray
) -> tuple[Literal["tensor", "channel", "block"], int | None]:
    if numbers.size == 1:
        return "tensor", None
    if node.op_type == "MatMulNBits" or node.attributes.get_int("block_size", 0):
        return "block", None
    linear = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    return "channel", node.attributes.get_int("axis", 1) if linear else None


def _dtype(places: list[_Place]) -> str:
    """The type of the integers, by their zero point or by what is read or made."""
    for place in places:
        quantizes = place.node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
        data = place.node.outputs[0] if quantizes else place.data
        for value in (place.zero, data):
            if value is not None and value.dtype not in (None, ir.DataType.UNDEFINED):
                return str(value.dtype).lower()
    quantizes = any(place.node.op_type == "DynamicQuantizeLinear" for place in places)
    return "uint8" if quantizes or places[0].zero is None else "unknown"
