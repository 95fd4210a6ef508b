"""How a quantised model's tensors are scaled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.shapes import CONTRIB
from onnxpress.values import STANDARD, constant, constant_tensor, name_of

Place = tuple[int | None, int | None, int | None]
PLACES: Mapping[tuple[str, str], tuple[Place, ...]] = {
    ("", "QuantizeLinear"): ((0, 1, 2),),
    ("", "DequantizeLinear"): ((0, 1, 2),),
    ("", "QLinearConv"): ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    ("", "QLinearMatMul"): ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    ("", "DynamicQuantizeLinear"): ((0, None, None),),
    (CONTRIB, "QuantizeLinear"): ((0, 1, 2),),
    (CONTRIB, "DequantizeLinear"): ((0, 1, 2),),
    (CONTRIB, "MatMulNBits"): ((1, 2, 3),),
    (CONTRIB, "QAttention"): ((0, 3, 6), (1, 4, 7)),
    (CONTRIB, "QLinearAdd"): ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
    (CONTRIB, "QLinearMul"): ((0, 1, 2), (3, 4, 5), (None, 6, 7)),
}
"""Domain and operator → of each tensor the inputs that are data (None: the output), scale, zero."""
Per = Literal["tensor", "channel", "block", "computed"]


@dataclass(frozen=True)
class Scale:
    """The scale of one tensor. ``per`` says whether there is one, one a channel, or one a block.

    ``count`` scales lie between ``low`` and ``high`` and their zero points between ``zero_low``
    and ``zero_high``; ``range_low`` to ``range_high`` is what the integers can represent. All are
    None where they are computed as the model runs. ``weight``: the tensor is constant. ``nodes``
    have this very scale, ``axis`` is that of the channels.
    """

    tensor: str
    nodes: tuple[str, ...]
    weight: bool
    dtype: str
    per: Per
    axis: int | None
    count: int | None
    low: float | None
    high: float | None
    zero_low: int | None
    zero_high: int | None
    range_low: float | None
    range_high: float | None

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
    domain = "" if node.domain in STANDARD else node.domain
    for data, scale, zero in PLACES.get((domain, node.op_type), ()):
        value = node.outputs[0] if data is None else _input(node, data)
        if value is not None:
            yield _Place(node, value, _input(node, scale), _input(node, zero))


def _input(node: ir.Node, index: int | None) -> ir.Value | None:
    return None if index is None or index >= len(node.inputs) else node.inputs[index]


def _scale(places: list[_Place]) -> Scale:
    first = places[0]
    numbers = None if first.scale is None else constant(first.scale)
    known = numbers if numbers is not None and numbers.size else None
    zeros = None if first.zero is None else constant(first.zero)
    spread = [0] if first.zero is None and known is not None else []
    if zeros is not None:
        spread = zeros.astype(np.int64).reshape(-1).tolist()
    per, axis = _spread(first.node, known)
    dtype = _dtype(places)
    least, most = _range(dtype, known, zeros)
    return Scale(
        tensor=first.data.name or "",
        nodes=tuple(dict.fromkeys(name_of(place.node) for place in places)),
        weight=constant_tensor(first.data) is not None,
        dtype=dtype,
        per=per,
        axis=axis,
        count=None if known is None else int(known.size),
        low=None if known is None else float(known.min()),
        high=None if known is None else float(known.max()),
        zero_low=min(spread, default=None),
        zero_high=max(spread, default=None),
        range_low=least,
        range_high=most,
    )


def _range(
    dtype: str, scale: np.ndarray | None, zero: np.ndarray | None
) -> tuple[float | None, float | None]:
    """The least and the largest of (q - zero) · scale over all integers and all channels."""
    found = re.fullmatch(r"(u?)int(\d+)", dtype)
    if found is None or scale is None or (zero is not None and zero.size not in (1, scale.size)):
        return None, None
    bits, unsigned = int(found[2]), bool(found[1])
    lowest = 0 if unsigned else -(1 << (bits - 1))
    scales = scale.astype(np.float64).reshape(-1)
    middle = 0.0 if zero is None else zero.astype(np.float64).reshape(-1)
    ends = (lowest - middle) * scales, (lowest + (1 << bits) - 1 - middle) * scales
    return float(ends[0].min()), float(ends[1].max())


def _spread(node: ir.Node, numbers: np.ndarray | None) -> tuple[Per, int | None]:
    if numbers is None:
        return "computed", None
    if numbers.size == 1:
        return "tensor", None
    block = node.attributes.get("block_size")
    if node.op_type == "MatMulNBits" or (block is not None and block.as_int()):
        return "block", None
    linear = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    axis = node.attributes.get("axis")
    return "channel", (1 if axis is None else axis.as_int()) if linear else None


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
