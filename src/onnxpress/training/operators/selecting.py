"""Operators that pick some of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onnxpress.training.attributes import Attributes
from onnxpress.training.operators.shaping import sizes


def _gather(given: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = given.integer("axis", 0) % x.dim()
    flat = _from_zero(indices.reshape(-1), x.shape[axis])
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, flat).reshape(shape)


def _gather_elements(given: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = given.integer("axis", 0) % x.dim()
    return x.gather(axis, _from_zero(indices, x.shape[axis]))


def _from_zero(indices: Tensor, size: int) -> Tensor:
    """Negative indices count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _cut(
    _: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = sizes(starts), sizes(ends)
    along = list(range(len(first))) if axes is None else sizes(axes)
    pace = [1] * len(first) if steps is None else sizes(steps)
    for begin, end, axis, step in zip(first, last, along, pace, strict=True):
        if step > 0:
            where = [slice(None)] * x.dim()
            where[axis] = slice(begin, end, step)
            x = x[tuple(where)]
        else:
            chosen = list(range(*slice(begin, end, step).indices(x.shape[axis])))
            x = x.index_select(axis, torch.tensor(chosen, dtype=torch.long, device=x.device))
    return x


def _where(_: Attributes, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _triangle(given: Attributes, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    offset = 0 if diagonal is None else int(diagonal)
    return torch.triu(x, offset) if given.integer("upper", 1) else torch.tril(x, offset)


SELECTING: Mapping[str, Callable[..., Tensor]] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Slice": _cut,
    "Trilu": _triangle,
    "Where": _where,
}
