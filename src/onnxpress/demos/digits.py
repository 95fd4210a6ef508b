"""A small ResNet on scikit-learn's handwritten digits, enlarged to 32×32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from onnxpress.errors import MissingExtra
from onnxpress.progress import Progress

SIZE = 32
MEAN, STD = 0.3, 0.4
CHECKPOINT = "digits.pt"
HELD_OUT = 600
"""Of 1,797 images: enough to prove a floor of 0.99 after a part of them has calibrated."""

PREPROCESS = f"size={SIZE},mean={MEAN},std={STD}"


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """float32 (batch, 1, 32, 32) → logits (batch, 10); about 300,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        widths, strides = (16, 32, 64, 96), (1, 2, 2, 2)
        self.stages = nn.Sequential(
            *(
                Residual(before, after, stride)
                for before, after, stride in zip((16, *widths), widths, strides, strict=False)
            )
        )
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.stages(self.stem(image))
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


def make() -> DigitNet:
    """The factory; its weights come from the checkpoint."""
    return DigitNet()


@dataclass(frozen=True)
class Trained:
    """What ``train`` wrote: weights, a folder of held-out images by class, one more image."""

    checkpoint: Path
    images: Path
    held_out: Path
    held_out_label: int
    accuracy: float


def train(folder: Path, progress: Progress, epochs: int = 14, seed: int = 0) -> Trained:
    """Train on two thirds of the digits and write the rest as PNG files.

    ``accuracy`` is that of the trained module on the held-out images.
    Raises ``MissingExtra`` without scikit-learn.
    """
    torch.manual_seed(seed)
    images, labels = _digits()
    order = np.random.default_rng(seed).permutation(len(images))
    kept, held = order[HELD_OUT:], order[:HELD_OUT]
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    steps = epochs * (len(kept) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    rng = np.random.default_rng(seed)
    step = 0
    for _ in range(epochs):
        for batch in _batches(rng.permutation(kept)):
            pixels = torch.from_numpy((images[batch].astype(np.float32) / 255 - MEAN) / STD)[
                :, None
            ]
            loss = functional.cross_entropy(
                model(_shifted(pixels, rng)), torch.from_numpy(labels[batch])
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # as torch declares it
            optimizer.step()
            schedule.step()
            step += 1
            progress("training", step, steps)
    checkpoint = folder / CHECKPOINT
    torch.save(model.state_dict(), checkpoint)
    shown, *scored = held
    paths = _write_images(folder / "held-out", images, labels, scored)
    one = folder / "digit.png"
    _save(one, images[shown])
    return Trained(
        checkpoint, paths, one, int(labels[shown]), _accuracy(model.eval(), images, labels, held)
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797, 32, 32) and int64 (1797,); the data set comes with scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra.of("scikit-learn", "demo", "brings the digits") from None
    from PIL import Image

    small, labels = load_digits(return_X_y=True)
    eight = (small.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        for image in eight
    ]
    return np.stack(large), labels.astype(np.int64)


def _batches(order: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(order) - 63, 64):
        yield order[start : start + 64]


def _shifted(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The batch moved by up to three pixels: the one augmentation that handwriting needs."""
    down, right = (int(n) for n in rng.integers(-3, 4, 2))
    return torch.roll(pixels, (down, right), (2, 3))


def _write_images(folder: Path, images: np.ndarray, labels: np.ndarray, indices: list[int]) -> Path:
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
    for index in indices:
        _save(folder / str(labels[index]) / f"{index:04}.png", images[index])
    return folder


def _save(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)


def _accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray, held: np.ndarray) -> float:
    with torch.inference_mode():
        pixels = torch.from_numpy((images[held].astype(np.float32) / 255 - MEAN) / STD)[:, None]
        return float((model(pixels).argmax(1).numpy() == labels[held]).mean())
