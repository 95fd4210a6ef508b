"""What a trained network does, one step after another, and what each leaves in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from onnxpress.training.attributes import Attributes
from onnxpress.training.grids import TrainedGrid
from onnxpress.training.operators import OPERATORS
from onnxpress.training.rounding import straight_through

BIAS_MOST = 2.0**31 - 1


class Parts(Protocol):
    """What a step finds in its network."""

    grids: nn.ModuleDict

    def weight(self, name: str) -> Tensor:
        """The trained or fixed tensor of this name."""


@dataclass(frozen=True)
class Step:
    """``inputs`` and ``outputs`` are names of values; a left out input is the empty name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, network: Parts, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        """The values of ``outputs``."""
        raise NotImplementedError

    def constants(self, network: Parts) -> Mapping[str, np.ndarray]:
        """The initializers of the file that follow from what was trained."""
        return {}


@dataclass(frozen=True)
class Compute(Step):
    """A float operator of the graph."""

    op: str
    given: Attributes

    def run(self, network: Parts, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        result = OPERATORS[self.op](self.given, *inputs)
        return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True)
class QuantizeActivation(Step):
    """A pair of QuantizeLinear and DequantizeLinear; ``scale`` and ``zero`` hold its grid."""

    grid: str
    scale: str
    zero: str

    def run(self, network: Parts, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        return (network.grids[self.grid](inputs[0]),)

    def constants(self, network: Parts) -> Mapping[str, np.ndarray]:
        grid = _grid(network, self.grid)
        return {self.scale: _array(grid.scale()), self.zero: grid.zero_point()}


@dataclass(frozen=True)
class QuantizeWeight(Step):
    """The DequantizeLinear of an int8 weight: ``values`` and ``scale`` hold it."""

    weight: str
    grid: str
    values: str
    scale: str

    def run(self, network: Parts, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        return (network.grids[self.grid](network.weight(self.weight)),)

    def constants(self, network: Parts) -> Mapping[str, np.ndarray]:
        grid = _grid(network, self.grid)
        values = grid.integers(network.weight(self.weight))
        return {self.values: values, self.scale: _array(grid.scale())}


@dataclass(frozen=True)
class QuantizeBias(Step):
    """The DequantizeLinear of an int32 bias, whose scale is the product of the other two."""

    bias: str
    activation: str
    weight_grid: str
    values: str
    scale: str

    def run(self, network: Parts, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        steps, scale, bias = self._rounded(network)
        return (straight_through(bias, steps.float() * scale),)

    def constants(self, network: Parts) -> Mapping[str, np.ndarray]:
        steps, scale, _ = self._rounded(network)
        return {self.values: _array(steps).astype(np.int32), self.scale: _array(scale)}

    def _rounded(self, network: Parts) -> tuple[Tensor, Tensor, Tensor]:
        bias = network.weight(self.bias).reshape(-1)
        with torch.no_grad():
            weight, activation = (
                _grid(network, key).scale() for key in (self.weight_grid, self.activation)
            )
            scale = weight * activation
            steps = torch.clamp(torch.round(bias.double() / scale), -BIAS_MOST, BIAS_MOST)
        return steps, scale, bias


def _grid(network: Parts, key: str) -> TrainedGrid:
    grid = network.grids[key]
    assert isinstance(grid, TrainedGrid)
    return grid


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
