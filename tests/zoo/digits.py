"""Scikit-learn's digits as they are, 8×8, and a small residual network for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

HELD_OUT = 600


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + x)


class Digits(nn.Module):
    """float32 (batch, 1, 8, 8) → logits (batch, 10): BatchNorm, ReLU6, pooling, residual sums."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block = Residual(width)
        self.down = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU6(),
        )
        self.block2 = Residual(2 * width)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.block2(self.down(self.block(self.stem(image))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Trained:
    """A trained network in evaluation mode, and images that it has never seen."""

    module: Digits
    loader: DataLoader[tuple[Tensor, ...]]
    held_out: Tensor
    labels: Tensor

    def accuracy(self, logits: np.ndarray) -> float:
        return float((logits.argmax(1) == self.labels.numpy()).mean())


def trained(epochs: int = 6) -> Trained:
    """In seconds; the same numbers each time."""
    torch.manual_seed(0)
    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(targets)
    order = torch.randperm(len(images))
    kept, held = order[HELD_OUT:], order[:HELD_OUT]
    loader = DataLoader(TensorDataset(images[kept], labels[kept]), 64, shuffle=True)
    module = Digits()
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(epochs):
        for inputs, wanted in loader:
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs), wanted).backward()
            optimizer.step()
    return Trained(module.eval(), loader, images[held], labels[held])
