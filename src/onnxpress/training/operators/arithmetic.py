"""Operators that work on one element at a time, and those that compare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes


def _one(compute: Callable[[Tensor], Tensor]) -> Callable[[Attributes, Tensor], Tensor]:
    """An operator of one input, without attributes."""
    return functools.partial(_apply_one, compute)


def _apply_one(compute: Callable[[Tensor], Tensor], _: Attributes, x: Tensor) -> Tensor:
    return compute(x)


def _two(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of two inputs, or of any number from one on that it joins in order."""
    return functools.partial(_apply_two, compute)


def _apply_two(
    compute: Callable[[Tensor, Tensor], Tensor], _: Attributes, *inputs: Tensor
) -> Tensor:
    return functools.reduce(compute, inputs)


def _divide(_: Attributes, a: Tensor, b: Tensor) -> Tensor:
    """Integers are cut towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(_: Attributes, x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent.to(x.dtype))


def _modulo(given: Attributes, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if given.integer("fmod", 0) else torch.remainder(a, b)


def _mean(_: Attributes, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _clip(
    _: Attributes, x: Tensor, least: Tensor | None = None, most: Tensor | None = None
) -> Tensor:
    return x if least is most is None else torch.clamp(x, least, most)


def _leaky_relu(given: Attributes, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, given.number("alpha", 0.01))


def _elu(given: Attributes, x: Tensor) -> Tensor:
    return functional.elu(x, given.number("alpha", 1.0))


def _celu(given: Attributes, x: Tensor) -> Tensor:
    return functional.celu(x, given.number("alpha", 1.0))


def _selu(given: Attributes, x: Tensor) -> Tensor:
    given.only(alpha=1.67326319217681884765625, gamma=1.05070102214813232421875)
    return functional.selu(x)


def _prelu(_: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _hard_sigmoid(given: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(x * given.number("alpha", 0.2) + given.number("beta", 0.5), 0, 1)


def _gelu(given: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=given.text("approximate", "none"))


def _softmax(given: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, given.integer("axis", -1))


def _log_softmax(given: Attributes, x: Tensor) -> Tensor:
    return torch.log_softmax(x, given.integer("axis", -1))


ARITHMETIC: Mapping[str, Callable[..., Tensor]] = {
    "Abs": _one(torch.abs),
    "Add": _two(torch.add),
    "And": _two(torch.logical_and),
    "Ceil": _one(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _one(torch.cos),
    "Div": _divide,
    "Elu": _elu,
    "Equal": _two(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Floor": _one(torch.floor),
    "Gelu": _gelu,
    "Greater": _two(torch.gt),
    "GreaterOrEqual": _two(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _one(functional.hardswish),
    "IsNaN": _one(torch.isnan),
    "LeakyRelu": _leaky_relu,
    "Less": _two(torch.lt),
    "LessOrEqual": _two(torch.le),
    "Log": _one(torch.log),
    "LogSoftmax": _log_softmax,
    "Max": _two(torch.maximum),
    "Mean": _mean,
    "Min": _two(torch.minimum),
    "Mish": _one(functional.mish),
    "Mod": _modulo,
    "Mul": _two(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _two(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _one(torch.reciprocal),
    "Relu": _one(torch.relu),
    "Round": _one(torch.round),
    "Selu": _selu,
    "Sigmoid": _one(torch.sigmoid),
    "Sign": _one(torch.sign),
    "Sin": _one(torch.sin),
    "Softmax": _softmax,
    "Softplus": _one(functional.softplus),
    "Softsign": _one(functional.softsign),
    "Sqrt": _one(torch.sqrt),
    "Sub": _two(torch.sub),
    "Sum": _two(torch.add),
    "Tanh": _one(torch.tanh),
}
