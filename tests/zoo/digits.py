"""Scikit-learn's digits as they are, 8×8, and a small residual network that is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from onnxpress import api

HELD_OUT = 600
BATCH = 64


class Net(nn.Module):
    """float32 (batch, 1, 8, 8) → logits (batch, 10): BatchNorm, ReLU6, pooling, residual sums."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normed(1, 16), nn.ReLU())
        self.body = nn.Sequential(*_normed(16, 16), nn.ReLU(), *_normed(16, 16))
        self.down = nn.Sequential(nn.MaxPool2d(2), *_normed(16, 32), nn.ReLU6())
        self.deep = nn.Sequential(*_normed(32, 32), nn.ReLU(), *_normed(32, 32))
        self.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = self.down(torch.relu(self.body(x) + x))
        x = torch.relu(self.deep(x) + x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def _normed(channels_in: int, channels: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return (
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )


@dataclass(frozen=True)
class Trained:
    """``module`` is in evaluation mode and has never seen ``held_out``."""

    module: Net
    seen: TensorDataset
    held_out: Tensor
    labels: Tensor

    @property
    def loader(self) -> DataLoader[tuple[Tensor, ...]]:
        """What the network was trained on, in the same order each time that one asks."""
        chance = torch.Generator().manual_seed(0)
        return DataLoader(self.seen, BATCH, shuffle=True, generator=chance)

    def accuracy(self, logits: np.ndarray) -> float:
        return float((logits.argmax(1) == self.labels.numpy()).mean())


def trained(epochs: int = 6) -> Trained:
    """In seconds; the same numbers each time."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        order = torch.randperm(len(images))
        module = Net()
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    net = Trained(module, TensorDataset(images[kept], labels[kept]), images[held], labels[held])
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    loader = net.loader
    for _ in range(epochs):
        for inputs, wanted in loader:
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs), wanted).backward()
            optimizer.step()
    module.eval()
    return net


@dataclass(frozen=True)
class Digits:
    """``onnx`` is the trained network, ``samples`` an ``.npz`` of what it has not seen."""

    onnx: Path
    samples: Path
    trained: Trained


def build(folder: Path) -> Digits:
    """By the TorchScript exporter, which names nodes after the module's layers."""
    net = trained()
    inputs = ["image:float32[batch,1,8,8]"]
    model = api.convert(net.module, inputs=inputs, exporter="torchscript").model
    samples = folder / "digits.npz"
    np.savez(samples, image=net.held_out.numpy(), labels=net.labels.numpy())
    return Digits(model.save(folder / "digits.onnx"), samples, net)
