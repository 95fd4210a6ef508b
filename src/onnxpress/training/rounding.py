"""QuantizeLinear and DequantizeLinear with gradients.

The arithmetic is ONNX's own, in float32: a division, rounding half to even, saturation. (PyTorch's
``fake_quantize_per_tensor_affine`` multiplies by the inverse scale, which rounds other values.)
Rounding lets gradients through as they are; what saturates has none. The scale's gradient is that
of Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx


def integers(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """What QuantizeLinear makes of ``x``, as whole numbers of ``x``'s type."""
    return torch.clamp(torch.round(x / scale) + zero, low, high)


def fake_quantized(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """``x`` as QuantizeLinear and DequantizeLinear leave it; ``scale`` broadcasts to ``x``."""
    result: Tensor = _FakeQuantize.apply(x, scale, zero, low, high)  # type: ignore[no-untyped-call]  # as torch declares it
    return result


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """``rounded``, with the gradient of ``x``."""
    result: Tensor = _StraightThrough.apply(x, rounded)  # type: ignore[no-untyped-call]  # as torch declares it
    return result


class _FakeQuantize(Function):
    """Keeps its inputs alone for the way back: three tensors less than autograd would."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int
    ) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.bounds = low, high  # type: ignore[attr-defined]  # where torch wants it
        return (integers(x, scale, zero, low, high) - zero) * scale

    @staticmethod
    def backward(
        ctx: FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        [gradient] = gradients
        x, scale, zero = ctx.saved_tensors  # type: ignore[attr-defined]  # where torch keeps it
        low, high = ctx.bounds  # type: ignore[attr-defined]  # see forward
        ratio = x / scale
        steps = torch.round(ratio)
        inside = (steps + zero >= low) & (steps + zero <= high)
        to_x = gradient * inside
        to_scale: Tensor | None = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]  # where torch tells it
            error = torch.where(inside, steps - ratio, torch.clamp(steps + zero, low, high) - zero)
            share = (scale.numel() / (x.numel() * high)) ** 0.5
            to_scale = (gradient * error).sum_to_size(scale.shape) * share
        return to_x, to_scale, None, None, None


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
