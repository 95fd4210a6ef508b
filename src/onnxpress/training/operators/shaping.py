"""Operators that keep the numbers and change what shape they are in, and shapes as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
import torch
from torch import Tensor

from onnxpress.training.attributes import Attributes, Unsupported


def sizes(tensor: Tensor) -> list[int]:
    """The integers that ``tensor`` holds."""
    return [int(size) for size in tensor.reshape(-1).tolist()]


def _reshape(given: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted, kept = sizes(shape), not given.integer("allowzero", 0)
    return x.reshape(
        [x.shape[axis] if size == 0 and kept else size for axis, size in enumerate(wanted)]
    )


def _flatten(given: Attributes, x: Tensor) -> Tensor:
    axis = given.integer("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, x.numel() // rows if rows else 0)


def _transpose(given: Attributes, x: Tensor) -> Tensor:
    return x.permute(given.integers("perm") or tuple(range(x.dim()))[::-1])


def _squeeze(given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = given.integers("axes") if axes is None else tuple(sizes(axes))
    return x.squeeze() if along is None else x.squeeze(along)


def _unsqueeze(given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = (given.integers("axes") or ()) if axes is None else tuple(sizes(axes))
    rank = x.dim() + len(along)
    for axis in sorted(axis % rank for axis in along):
        x = x.unsqueeze(axis)
    return x


def _concat(given: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, given.integer("axis", 0))


def _split(given: Attributes, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, parts = given.integer("axis", 0), given.integer("num_outputs", 0)
    if lengths is not None:
        return tuple(torch.split(x, sizes(lengths), axis))
    if not parts:
        raise Unsupported("equal parts without num_outputs")
    return tuple(torch.split(x, -(-x.shape[axis] // parts), axis))


def _expand(_: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = sizes(shape)
    wanted = [1] * (x.dim() - len(wanted)) + wanted
    own = [1] * (len(wanted) - x.dim()) + list(x.shape)
    return x.expand([a if b == 1 else b for a, b in zip(own, wanted, strict=True)])


def _tile(_: Attributes, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(sizes(repeats))


def _shape_of(given: Attributes, x: Tensor) -> Tensor:
    end = given.integer("end", x.dim())
    return torch.tensor(list(x.shape)[given.integer("start", 0) : end], device=x.device)


def _size_of(_: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), device=x.device)


def _constant_of_shape(given: Attributes, shape: Tensor) -> Tensor:
    value = given.tensor("value")
    value = torch.zeros(1) if value is None else value
    return value.reshape(()).expand(sizes(shape)).clone().to(shape.device)


def _count(_: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    device = start.device
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=device)


def _cast(given: Attributes, x: Tensor) -> Tensor:
    name = ir.DataType(given.integer("to", 1)).numpy().name
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype):
        raise Unsupported(f"the type {name}")
    return x.to(kind)


def _depth_to_space(given: Attributes, x: Tensor) -> Tensor:
    block = given.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    inner = channels // block**2
    if given.text("mode", "DCR") == "CRD":
        x = x.reshape(batch, inner, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        x = x.reshape(batch, block, block, inner, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(batch, inner, height * block, width * block)


def _space_to_depth(given: Attributes, x: Tensor) -> Tensor:
    block = given.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // block, block, width // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block, width // block)


def _same(_: Attributes, x: Tensor, *unused: Tensor | None) -> Tensor:
    return x


SHAPING: Mapping[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _same,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _same,
    "Range": _count,
    "Reshape": _reshape,
    "Shape": _shape_of,
    "Size": _size_of,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
