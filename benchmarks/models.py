"""The models of the benchmarks: torchvision's architectures, with seeded or trained weights."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

with contextlib.suppress(RuntimeError):  # declared already
    # A CPU build of torch lacks the operators that torchvision's wheel expects.
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision import models

SIDE = 64
HELD_OUT = 700


def resnet18() -> nn.Module:
    """ImageNet's 1,000 classes, seeded weights."""
    torch.manual_seed(0)
    model: nn.Module = models.resnet18(weights=None)
    return model


def resnet50() -> nn.Module:
    """ImageNet's 1,000 classes, seeded weights."""
    torch.manual_seed(0)
    model: nn.Module = models.resnet50(weights=None)
    return model


def mobilenet_v2() -> nn.Module:
    """ImageNet's 1,000 classes, seeded weights."""
    torch.manual_seed(0)
    model: nn.Module = models.mobilenet_v2(weights=None)
    return model


def resnet18_digits() -> nn.Module:
    """Ten classes; the weights come from the checkpoint."""
    model: nn.Module = models.resnet18(weights=None, num_classes=10)
    return model


def mobilenet_v2_digits() -> nn.Module:
    """Ten classes; the weights come from the checkpoint."""
    model: nn.Module = models.mobilenet_v2(weights=None, num_classes=10)
    return model


def photos(folder: Path, count: int) -> Path:
    """Crops of scikit-learn's two sample photographs, as JPEG files."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = load_sample_images().images
    for index in range(count):
        image = images[index % len(images)]
        side = int(rng.integers(200, 400))
        top = int(rng.integers(0, image.shape[0] - side))
        left = int(rng.integers(0, image.shape[1] - side))
        crop = image[top : top + side, left : left + side]
        Image.fromarray(crop).save(folder / f"{index:03}.jpg", quality=90)
    return folder


def train_on_digits(name: str, folder: Path, seconds: float) -> tuple[Path, Path, float]:
    """Train for about ``seconds`` on digits enlarged to 64×64 RGB.

    Returns the checkpoint, the folder of held-out images by class, and their accuracy.
    """
    import time

    from PIL import Image
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    small, labels = load_digits(return_X_y=True)
    eight = (small.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    large = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            for i in eight
        ]
    )
    order = np.random.default_rng(0).permutation(len(large))
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    model = globals()[name]().train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    rng = np.random.default_rng(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = rng.choice(kept, 64)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.02, (end - time.monotonic()) / seconds)
        loss = functional.cross_entropy(
            model(_tensor(large[batch])), torch.from_numpy(labels[batch])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        right = [
            model(_tensor(large[held[i : i + 50]])).argmax(1).numpy()
            for i in range(0, HELD_OUT, 50)
        ]
    accuracy = float((np.concatenate(right) == labels[held]).mean())
    torch.save(model.state_dict(), folder / f"{name}.pt")
    for index in held:
        place = folder / name / str(labels[index])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(large[index]).save(place / f"{index:04}.png")
    return folder / f"{name}.pt", folder / name, accuracy


def _tensor(images: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy((images.astype(np.float32) / 255 - 0.5) / 0.5)
    return pixels[:, None].expand(-1, 3, -1, -1).contiguous()


class Block(nn.Module):
    """A transformer's layer, norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mixed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mixed(self.norms[1](x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Token ids (batch, 16) → 64 numbers each."""

    def __init__(self, layers: int, width: int = 1024) -> None:
        super().__init__()
        self.table = nn.Embedding(8000, width)
        self.blocks = nn.Sequential(*(Block(width, 16) for _ in range(layers)))
        self.out = nn.Linear(width, 64)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.blocks(self.table(ids)).mean(1))  # type: ignore[no-any-return]


LAYERS = {"transformer_1gb": 20, "transformer_2gb5": 50}


def example_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model with seeded weights and inputs of two rows, 224×224 pixels or 16 ids each."""
    torch.manual_seed(0)
    if name in LAYERS:
        return Encoder(LAYERS[name]).eval(), torch.randint(0, 8000, (2, 16))
    return getattr(models, name)(weights=None).eval(), torch.randn(2, 3, 224, 224)
