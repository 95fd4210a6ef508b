"""Grids whose step is trained: the scales of the quantised graph, near where they began."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from onnxpress.least_error import fitted
from onnxpress.quantization import Grid
from onnxpress.training.rounding import fake_quantized, integers


class TrainedGrid(nn.Module):
    """``scale = start · exp(growth)``, one for all or one per channel along ``axis``.

    Trained is ``growth``, which begins at 0: the scale stays positive, a step of the optimiser
    changes all scales by about the same share (Jain et al. 2020, arXiv:1903.08066), and weight
    decay draws them to where they began. ``most`` bounds the scale. All that tells what is exported
    is part of the state: ``bounds`` too, which a state that is loaded must agree with.
    """

    start: Tensor
    zero: Tensor
    most: Tensor
    bounds: Tensor

    def __init__(
        self,
        start: np.ndarray,
        bounds: tuple[int, int],
        zero: int = 0,
        axis: int | None = None,
        most: float = math.inf,
    ) -> None:
        super().__init__()
        self.register_buffer("start", torch.from_numpy(np.array(start, np.float32)))
        self.register_buffer("zero", torch.tensor(float(zero)))
        self.register_buffer("most", torch.tensor(float(most)))
        self.register_buffer("bounds", torch.tensor(bounds))
        self.growth = nn.Parameter(torch.zeros_like(self.start))
        self.low, self.high = bounds
        self.axis = axis

    def scale(self) -> Tensor:
        """float32, of the shape that the graph has it in."""
        return torch.clamp(self.start * torch.exp(self.growth), max=self.most)

    def forward(self, x: Tensor) -> Tensor:
        return fake_quantized(x, self._along(x), self.zero, self.low, self.high)

    def integers(self, x: Tensor) -> np.ndarray:
        """What stands for ``x`` in the file, of the smallest type that holds it."""
        with torch.no_grad():
            found = integers(x, self._along(x), self.zero, self.low, self.high)
        return found.cpu().numpy().astype(self._dtype)

    def zero_point(self) -> np.ndarray:
        """As ``integers``."""
        return np.array(int(self.zero), self._dtype)

    @property
    def _dtype(self) -> np.dtype:
        return next(
            np.dtype(kind)
            for kind in (np.uint8, np.int8, np.uint16, np.int16)
            if np.iinfo(kind).min <= self.low and self.high <= np.iinfo(kind).max
        )

    def _along(self, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        if self.axis is not None:
            shape[self.axis] = -1
            return self.scale().reshape(shape)
        return self.scale()


def activation(grid: Grid, least: float = -math.inf, most: float = math.inf) -> TrainedGrid:
    """The calibrated ``grid``; it never reaches past ``least`` and ``most``."""
    limits, zero = np.iinfo(grid.zero_point.dtype), int(grid.zero_point)
    bounds = int(limits.min), int(limits.max)
    widest = math.inf
    for end, steps in ((most, bounds[1] - zero), (least, bounds[0] - zero)):
        if math.isfinite(end) and steps:
            widest = min(widest, _scale_within(end, steps))
    return TrainedGrid(grid.scale, bounds, zero, None, widest)


def _scale_within(end: float, steps: int) -> float:
    """The largest float32 scale of which ``steps`` steps do not pass ``end``."""
    scale = np.float32(end / steps)
    while abs(np.float32(steps) * scale) > abs(np.float32(end)):
        scale = np.nextafter(scale, np.float32(0))
    return float(scale)


def weight(values: np.ndarray, given: np.ndarray, axis: int, bits: int) -> TrainedGrid:
    """Symmetric, per channel along ``axis``; at first with the least squared error.

    ``given`` are the scales that the whole range needs, or more where a bias asks for it: such
    are kept.
    """
    limit = 2 ** (bits - 1) - 1
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    widest = np.abs(rows).max(axis=1) / np.float32(limit)
    kept = given > widest * np.float32(1.001)
    start = np.where(kept, given, fitted(rows, given, -limit, limit))
    return TrainedGrid(start, (-limit, limit), 0, axis)
