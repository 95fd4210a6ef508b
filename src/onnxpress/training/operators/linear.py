"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes, Unsupported
from onnxpress.training.operators.padding import outer_pads, padded

_CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _conv(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = _rank(x)
    strides, dilations = _each(given, "strides", rank), _each(given, "dilations", rank)
    pads = outer_pads(given, x.shape[2:], weight.shape[2:], strides, dilations)
    x, inner = padded(x, pads, 0.0)
    result: Tensor = _CONV[rank](
        x, weight, bias, strides, inner, dilations, given.integer("group", 1)
    )
    return result


def _conv_transpose(
    given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Raises ``Unsupported`` for paddings that differ between the two sides."""
    rank = _rank(x)
    given.only(auto_pad="NOTSET")
    if given.integers("output_shape") is not None:
        raise Unsupported("output_shape")
    pads = given.integers("pads") or (0,) * (2 * rank)
    added = list(given.integers("output_padding") or (0,) * rank)
    strides, dilations = _each(given, "strides", rank), _each(given, "dilations", rank)
    if pads[:rank] != pads[rank:]:
        raise Unsupported(f"pads={pads}")
    result: Tensor = _TRANSPOSED[rank](
        x, weight, bias, strides, pads[:rank], added, given.integer("group", 1), dilations
    )
    return result


def _gemm(given: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.t() if given.integer("transA", 0) else a
    alpha, beta = given.number("alpha", 1.0), given.number("beta", 1.0)
    if given.integer("transB", 0) and alpha == beta == 1 and (c is None or c.dim() == 1):
        return functional.linear(a, b, c)
    product = alpha * (a @ (b.t() if given.integer("transB", 0) else b))
    return product if c is None else product + beta * c


def _matmul(_: Attributes, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


def _einsum(given: Attributes, *inputs: Tensor) -> Tensor:
    result: Tensor = torch.einsum(given.text("equation", ""), *inputs)
    return result


def _rank(x: Tensor) -> int:
    if x.dim() - 2 not in _CONV:
        raise Unsupported(f"an input of {x.dim()} dimensions")
    return x.dim() - 2


def _each(given: Attributes, name: str, rank: int) -> tuple[int, ...]:
    return given.integers(name) or (1,) * rank


LINEAR: Mapping[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
