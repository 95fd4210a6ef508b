"""Operators that make one number of many, along axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onnxpress.training.attributes import Attributes

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reduce(compute: Reduction, given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """``axes`` is an input, or an attribute in older opsets; none at all means every axis."""
    along = given.integers("axes") if axes is None else tuple(int(n) for n in axes.tolist())
    if not along:
        if given.integer("noop_with_empty_axes", 0):
            return x
        along = tuple(range(x.dim()))
    return compute(x, along, bool(given.integer("keepdims", 1)))


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(axes, keep)


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keep)


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keep)
    return x


def _l1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.abs().sum(axes, keep)


def _l2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return _sum_square(x, axes, keep).sqrt()


def _sum_square(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.square().sum(axes, keep)


def _arg_max(given: Attributes, x: Tensor) -> Tensor:
    given.only(select_last_index=0)
    return x.argmax(given.integer("axis", 0), bool(given.integer("keepdims", 1)))


def _arg_min(given: Attributes, x: Tensor) -> Tensor:
    given.only(select_last_index=0)
    return x.argmin(given.integer("axis", 0), bool(given.integer("keepdims", 1)))


def _cumulative_sum(given: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    given.only(exclusive=0, reverse=0)
    return x.cumsum(int(axis))


REDUCING: Mapping[str, Callable[..., Tensor]] = {
    "ArgMax": _arg_max,
    "ArgMin": _arg_min,
    "CumSum": _cumulative_sum,
    "ReduceL1": functools.partial(_reduce, _l1),
    "ReduceL2": functools.partial(_reduce, _l2),
    "ReduceLogSumExp": functools.partial(_reduce, torch.logsumexp),
    "ReduceMax": functools.partial(_reduce, torch.amax),
    "ReduceMean": functools.partial(_reduce, _mean),
    "ReduceMin": functools.partial(_reduce, torch.amin),
    "ReduceProd": functools.partial(_reduce, _product),
    "ReduceSum": functools.partial(_reduce, _sum),
    "ReduceSumSquare": functools.partial(_reduce, _sum_square),
}
