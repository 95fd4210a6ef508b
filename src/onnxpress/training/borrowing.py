"""The user's module while it is exported: what is changed in it for that time, and put back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LITTLE = 1e-6
"""What parameters that are alike are changed by."""


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` back into the mode, training or evaluation, that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def changed(parameters: Sequence[Tensor], much: float) -> Iterator[None]:
    """Add noise, the same each time: ``much`` of each number's size, or of 1 where it is zero."""
    kept = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.rand(parameter.shape, generator=generator) - 0.5
                size = torch.where(parameter == 0, 1.0, parameter.abs())
                parameter.add_((noise * much * size).to(parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, kept, strict=True):
                parameter.copy_(values)


@contextmanager
def apart(module: nn.Module) -> Iterator[None]:
    """Make parameters differ that happen to be equal: ones and zeros of layers not yet trained.

    Exporters write one constant for equal ones and leave out a bias of zeros, and what is one
    constant would be trained as one. Tied parameters, which are one tensor, stay so.
    """
    parameters = [p for p in module.parameters() if p.is_floating_point() and p.numel()]
    seen = Counter(_content(tensor) for tensor in (*parameters, *module.buffers()))
    alike = [p for p in parameters if seen[_content(p)] > 1 or bool((p == p.flatten()[0]).all())]
    with changed(alike, LITTLE):
        yield


def _content(tensor: Tensor) -> tuple[object, ...]:
    flat = tensor.detach().contiguous().cpu().reshape(-1)
    return tuple(tensor.shape), hash(flat.view(torch.uint8).numpy().tobytes())
