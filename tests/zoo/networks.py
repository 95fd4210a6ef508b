"""Small networks with seeded weights, one for each kind of layer that the passes care about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread: two test processes would wait for each other's on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a way around them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.norm2 = nn.BatchNorm2d(channels)
        self.around = nn.Conv2d(channels_in, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm(self.first(x)))
        return torch.relu(self.norm2(self.second(inner)) + self.around(x))


class Cnn(nn.Module):
    """Residual image classifier: (batch, 3, 32, 32) → (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(self.stem(image)).mean((2, 3))
        return self.head(self.drop(features))


class Transformer(nn.Module):
    """One encoder block: (batch, length) token ids → (batch, 16) mean of the tokens."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.tokens = nn.Embedding(50, width)
        self.places = nn.Embedding(64, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, ids: Tensor) -> Tensor:
        batch, length = ids.shape
        x = self.tokens(ids) + self.places(torch.arange(length))
        qkv = self.qkv(x).view(batch, length, 3, self.heads, self.width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (self.width / self.heads) ** 0.5
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, self.width)
        x = self.norm(x + self.drop(self.out(mixed)))
        x = self.norm2(x + self.drop(self.narrow(nn.functional.gelu(self.wide(x)))))
        return x.mean(1)


class Lstm(nn.Module):
    """Sequence model: (batch, 12, 6) → (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.cells(series)
        return self.head(states[:, -1])


class Mlp(nn.Module):
    """Two hidden layers: (batch, 7) → two outputs, (batch, 3) probabilities and (batch, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh())
        self.head = nn.Linear(16, 3)

    def forward(self, row: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(row)
        return self.head(features).softmax(-1), features


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights and batch statistics; He-scaled, so that activations stay of order one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim == 1:
                tensor.copy_(noise * 0.2)
            else:
                tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
    return module.eval()
