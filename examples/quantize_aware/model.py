"""A small residual network for handwritten digits of 8×8 pixels."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as ``x``."""
        return torch.relu(self.inner(x) + x)


class DigitNet(nn.Module):
    """float32 (batch, 1, 8, 8) → logits (batch, 10)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Residual(width),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU6(),
            Residual(2 * width),
        )
        self.head = nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """One row of logits for each image."""
        logits: Tensor = self.head(self.stages(image).mean((2, 3)))
        return logits
