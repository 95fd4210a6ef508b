"""Pooling over windows and over everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes, Unsupported
from onnxpress.training.operators.padding import outer_pads, padded

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _max_pool(given: Attributes, x: Tensor) -> Tensor:
    rank = _rank(x)
    kernel, strides, dilations = _window(given, rank)
    pads = outer_pads(given, x.shape[2:], kernel, strides, dilations)
    x, inner = padded(x, pads, -math.inf, [width // 2 for width in kernel])
    ceil = bool(given.integer("ceil_mode", 0))
    result: Tensor = _MAX[rank](x, kernel, strides, inner, dilations, ceil)
    return result


def _average_pool(given: Attributes, x: Tensor) -> Tensor:
    """Uneven paddings count only where the node says so."""
    rank = _rank(x)
    kernel, strides, dilations = _window(given, rank)
    if any(step != 1 for step in dilations):
        raise Unsupported(f"dilations={dilations}")
    pads = outer_pads(given, x.shape[2:], kernel, strides, dilations)
    ceil, counted = (bool(given.integer(key, 0)) for key in ("ceil_mode", "count_include_pad"))
    half = [width // 2 for width in kernel]
    wide, inner = padded(x, pads, 0.0, half)
    result: Tensor = _MEAN[rank](wide, kernel, strides, inner, ceil, counted)
    if wide is x or counted:
        return result
    inside, _ = padded(torch.ones_like(x[:1, :1]), pads, 0.0, half)
    share: Tensor = _MEAN[rank](inside, kernel, strides, inner, ceil, counted)
    return result / share


def _global_average_pool(_: Attributes, x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def _global_max_pool(_: Attributes, x: Tensor) -> Tensor:
    return x.amax(dim=tuple(range(2, x.dim())), keepdim=True)


def _window(
    given: Attributes, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    ones = (1,) * rank
    kernel = given.integers("kernel_shape") or ones
    return kernel, given.integers("strides") or ones, given.integers("dilations") or ones


def _rank(x: Tensor) -> int:
    if x.dim() - 2 not in _MAX:
        raise Unsupported(f"an input of {x.dim()} dimensions")
    return x.dim() - 2


POOLING: Mapping[str, Callable[..., Tensor]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
