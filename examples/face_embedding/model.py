"""MobileFaceNet: Chen et al. (2018), "MobileFaceNets: efficient CNNs for face verification"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

TABLE = ((2, 64, 3, 2), (4, 128, 1, 2), (2, 128, 3, 1), (4, 128, 1, 2), (2, 128, 1, 1))
"""Expansion, channels, blocks and first stride of each stage: the paper's, with fewer blocks."""


def normalised(
    before: int, after: int, size: int, *, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """Convolution, normalisation and PReLU; a linear one is without."""
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    ]
    return nn.Sequential(*layers, *([nn.PReLU(after)] if active else []))


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual with PReLU."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        self.steps = nn.Sequential(
            normalised(before, hidden, 1),
            normalised(hidden, hidden, 3, stride=stride, groups=hidden),
            normalised(hidden, after, 1, active=False),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.steps(x)
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """Aligned faces (batch, 3, size, size) → ``embedding`` (batch, dimensions) of length 1.

    Instead of a mean over the last features, each channel learns how much each place of a face
    matters: a convolution by channel as large as they are. So the input has one ``size``, a
    multiple of 16. ``width`` multiplies all channels.
    """

    def __init__(
        self,
        dimensions: int = 64,
        size: int = 64,
        width: float = 0.5,
        table: Sequence[tuple[int, int, int, int]] = TABLE,
    ) -> None:
        super().__init__()
        before = int(64 * width)
        layers: list[nn.Module] = [
            normalised(3, before, 3, stride=2),
            normalised(before, before, 3, groups=before),
        ]
        side = size // 2
        for expansion, channels, blocks, first in table:
            after = int(channels * width)
            for block in range(blocks):
                layers.append(Bottleneck(before, after, first if block == 0 else 1, expansion))
                before = after
            side //= first
        last = int(512 * width)
        self.features = nn.Sequential(*layers, normalised(before, last, 1))
        self.places = nn.Sequential(
            nn.Conv2d(last, last, side, groups=last, bias=False), nn.BatchNorm2d(last)
        )
        self.project = nn.Sequential(nn.Linear(last, dimensions), nn.BatchNorm1d(dimensions))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        vector = self.project(self.places(self.features(image)).flatten(1))
        return {"embedding": functional.normalize(vector)}


def make() -> tuple[MobileFaceNet, tuple[torch.Tensor]]:
    """The factory, with an example of what it takes; its weights come from the checkpoint."""
    return MobileFaceNet(), (torch.zeros(2, 3, 64, 64),)
