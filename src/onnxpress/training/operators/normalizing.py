"""Normalisation. Batch statistics are the trained ones and stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes

EPSILON = 1e-5


def _layer_normalization(
    given: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    axis = given.integer("axis", -1) % x.dim()
    shape = x.shape[axis:]
    scale = scale.expand(shape)
    bias = None if bias is None else bias.expand(shape)
    return functional.layer_norm(x, shape, scale, bias, given.number("epsilon", EPSILON))


def _rms_normalization(given: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    axis = given.integer("axis", -1) % x.dim()
    square = x.square().mean(tuple(range(axis, x.dim())), keepdim=True)
    return x * torch.rsqrt(square + given.number("epsilon", EPSILON)) * scale


def _batch_normalization(
    given: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    given.only(training_mode=0)
    epsilon = given.number("epsilon", EPSILON)
    return functional.batch_norm(
        x, mean.detach(), variance.detach(), scale, bias, False, 0.0, epsilon
    )


def _instance_normalization(given: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    epsilon = given.number("epsilon", EPSILON)
    return functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def _group_normalization(given: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias are per group."""
    groups, channels = given.integer("num_groups", 1), x.shape[1]
    if scale.numel() != channels:
        scale, bias = (each.repeat_interleave(channels // groups) for each in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, given.number("epsilon", EPSILON))


def _lp_normalization(given: Attributes, x: Tensor) -> Tensor:
    axis, power = given.integer("axis", -1), given.integer("p", 2)
    norm: Tensor = torch.linalg.vector_norm(x, power, axis, keepdim=True)
    return x / norm


NORMALIZING: Mapping[str, Callable[..., Tensor]] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "RMSNormalization": _rms_normalization,
}
