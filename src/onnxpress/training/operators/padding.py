"""How much a convolution or a pooling pads, and padding that PyTorch's own cannot express."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from onnxpress.training.attributes import Attributes

Pads = tuple[tuple[int, int], ...]
"""What is added before and after, for each spatial axis."""


def outer_pads(
    given: Attributes,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """The node's ``pads``, or those that its ``auto_pad`` means for an input of ``sizes``."""
    rank, automatic = len(sizes), given.text("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        flat = (given.integers("pads") if automatic == "NOTSET" else None) or (0,) * (2 * rank)
        return tuple(zip(flat[:rank], flat[rank:], strict=True))
    pads = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return tuple(pads)


def padded(
    x: Tensor, pads: Pads, value: float, limits: Sequence[int] | None = None
) -> tuple[Tensor, tuple[int, ...]]:
    """``x`` and the padding that is left to the operator: all of it, or none where it is uneven.

    ``limits`` is the most that the operator takes for each axis.
    """
    before = tuple(pair[0] for pair in pads)
    fits = limits is None or all(n <= most for n, most in zip(before, limits, strict=True))
    if fits and all(first == last for first, last in pads):
        return x, before
    flat = [n for pair in reversed(pads) for n in pair]
    return functional.pad(x, flat, value=value), (0,) * len(pads)
