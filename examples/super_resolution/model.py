"""The sub-pixel network of Shi et al. 2016: all work in low resolution, then one shuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 2


class SubPixel(nn.Module):
    """float32 (batch, 3, H, W) in 0 to 1 → (batch, 3, scale·H, scale·W).

    "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
    neural network", CVPR. Its last layer gives scale² values for each pixel and channel, which
    ``pixel_shuffle`` lays side by side. What it learns is what bilinear scaling lacks.
    """

    def __init__(self, scale: int = SCALE, width: int = 24, depth: int = 3) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, width, 5, padding=2), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.detail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        smooth = functional.interpolate(
            image, scale_factor=self.scale, mode="bilinear", align_corners=False
        )
        detail = functional.pixel_shuffle(self.detail(self.features(image)), self.scale)
        return {"image": smooth + detail}


def make() -> tuple[SubPixel, tuple[Tensor]]:
    """The factory, with an example: 32×32 pixels; its weights come from a checkpoint."""
    return SubPixel(), (torch.zeros(1, 3, 32, 32),)
