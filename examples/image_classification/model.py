"""MobileNetV2, written out: Sandler et al. (2018), "Inverted residuals and linear bottlenecks"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
"""Expansion, channels, blocks and first stride of each stage; the paper's last one is left out."""


def normalised(
    before: int, after: int, size: int, *, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """Convolution, normalisation and, unless the bottleneck is linear, ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if active else []))


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter each channel by 3×3, narrow by 1×1; added to its input where it fits."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        widen = [normalised(before, hidden, 1)] if expansion != 1 else []
        self.steps = nn.Sequential(
            *widen,
            normalised(hidden, hidden, 3, stride=stride, groups=hidden),
            normalised(hidden, after, 1, active=False),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.steps(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Images (batch, channels, height, width) → logits (batch, classes).

    ``width`` multiplies all channels.
    """

    def __init__(
        self,
        classes: int = 10,
        width: float = 0.5,
        table: Sequence[tuple[int, int, int, int]] = TABLE,
        channels: int = 1,
    ) -> None:
        super().__init__()
        before = scaled(32, width)
        layers: list[nn.Module] = [normalised(channels, before, 3, stride=2)]
        for expansion, wide, blocks, first in table:
            after = scaled(wide, width)
            for block in range(blocks):
                stride = first if block == 0 else 1
                layers.append(InvertedResidual(before, after, stride, expansion))
                before = after
        last = scaled(640, width)
        self.features = nn.Sequential(*layers, normalised(before, last, 1))
        self.head = nn.Linear(last, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(image).mean((2, 3)))
        return logits


def scaled(channels: int, width: float) -> int:
    """A multiple of 8, as vector units like it, and at least 8."""
    return max(8, int(channels * width + 4) // 8 * 8)


def make() -> MobileNetV2:
    """The factory; its weights come from the checkpoint."""
    return MobileNetV2()
