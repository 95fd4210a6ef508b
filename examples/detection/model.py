"""A small anchor-free detector in the manner of YOLOX: every cell may tell one object."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

NAMES = ("circle", "square", "triangle")
STRIDE = 8


def conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """A 3×3 convolution with its normalisation."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


class Stage(nn.Module):
    """Half the size, then ``depth`` residual convolutions."""

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.down = conv(before, after, 2)
        self.blocks = nn.ModuleList(conv(after, after) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class Detector(nn.Module):
    """RGB (batch, 3, height, width) → (batch, cells, 4 + classes); sides are multiples of 16.

    A row is centre x, centre y, width and height in pixels, then a probability for each class.
    Each cell of 8×8 pixels tells how far the four sides are from its middle, as in FCOS: Tian et
    al. (2019), "Fully convolutional one-stage object detection", ICCV.
    """

    def __init__(self, classes: int = len(NAMES), width: int = 16, depth: int = 1) -> None:
        super().__init__()
        self.stem = conv(3, width, 2)
        self.quarter = Stage(width, 2 * width, depth)
        self.eighth = Stage(2 * width, 4 * width, depth)
        self.sixteenth = Stage(4 * width, 6 * width, depth)
        self.lateral = nn.Conv2d(6 * width, 4 * width, 1)
        self.box_tower, self.class_tower = conv(4 * width, 4 * width), conv(4 * width, 4 * width)
        self.distances = nn.Conv2d(4 * width, 4, 1)
        self.classes = nn.Conv2d(4 * width, classes, 1)
        nn.init.constant_(self.classes.bias, -4.6)  # at first almost nothing is an object

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        boxes, logits = self.raw(image)
        return torch.cat([boxes, logits.sigmoid()], dim=2)

    def raw(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (batch, cells, 4) and the classes' logits (batch, cells, classes)."""
        fine = self.eighth(self.quarter(self.stem(image)))
        coarse = self.lateral(self.sixteenth(fine))
        features = fine + functional.interpolate(coarse, scale_factor=2.0)
        sides = functional.softplus(self.distances(self.box_tower(features))) * STRIDE
        logits = self.classes(self.class_tower(features))
        left, top, right, bottom = sides.flatten(2).unbind(1)
        x, y = middles(features)
        boxes = [x + (right - left) / 2, y + (bottom - top) / 2, left + right, top + bottom]
        return torch.stack(boxes, dim=2), logits.flatten(2).transpose(1, 2)


def middles(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells' middles (x, y) in pixels, row by row."""
    rows, columns = features.shape[2:]
    y = (torch.arange(rows, device=features.device) + 0.5) * STRIDE
    x = (torch.arange(columns, device=features.device) + 0.5) * STRIDE
    return x.repeat(rows), y.repeat_interleave(columns)


def make() -> Detector:
    """The factory; its weights come from the checkpoint."""
    return Detector()
