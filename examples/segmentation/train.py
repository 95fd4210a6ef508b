"""Train networks on drawn shapes, and write weights and held-out samples into build/.

    python train.py [bisenet] [unet] [deeplab]

The first two without a name; DeepLabV3 is torchvision's.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from model import CLASSES
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional

BUILD = Path(__file__).parent / "build"
SIDE, HELD_OUT, BATCH = 64, 240, 16
PLANS = {
    "bisenet": ("model", "make_bisenet", 500, 4e-3),
    "unet": ("model", "make", 450, 1.2e-2),
    "deeplab": ("deeplab", "make", 300, 2e-3),
}
"""Name → module, factory, steps, learning rate."""


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (64, 64, 3) noise with one to three shapes, and the class of each pixel (64, 64)."""
    tint = rng.integers(0, 256, 3)
    picture = Image.fromarray(np.full((SIDE, SIDE, 3), tint, np.uint8))
    mask = Image.new("L", (SIDE, SIDE))
    for _ in range(rng.integers(1, 4)):
        kind = int(rng.integers(1, len(CLASSES)))
        radius = int(rng.integers(8, 20))
        x, y = (int(place) for place in rng.integers(8, SIDE - 8, 2))
        colour = tuple(int(level) for level in (tint + rng.integers(60, 196, 3)) % 256)
        for canvas, fill in ((ImageDraw.Draw(picture), colour), (ImageDraw.Draw(mask), kind)):
            if kind == 1:
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill)
            elif kind == 2:
                canvas.rectangle((x - radius, y - radius, x + radius, y + radius), fill)
            else:
                canvas.polygon(
                    [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill
                )
    noise = rng.normal(0, 18, (SIDE, SIDE, 3))
    pixels = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
    return pixels, np.asarray(mask)


def batches(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images as ``--preprocess mean=0.5,std=0.25`` makes them, and int64 masks; without end."""
    while True:
        images, masks = zip(*(draw(rng) for _ in range(BATCH)), strict=True)
        values = (np.stack(images).astype(np.float32) / 255 - 0.5) / 0.25
        yield (
            torch.from_numpy(values).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(np.stack(masks)).long(),
        )


def train(model: nn.Module, steps: int, rate: float, rng: np.random.Generator) -> nn.Module:
    """With Adam; the learning rate rises and falls once."""
    optimizer = torch.optim.Adam(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for images, masks in itertools.islice(batches(rng), steps):
        loss = functional.cross_entropy(model(images)["logits"], masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def mean_iou(model: nn.Module, samples: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Over all pixels of the samples and all classes."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)))
    with torch.inference_mode():
        for image, mask in samples:
            values = (image.astype(np.float32) / 255 - 0.5) / 0.25
            found = model(torch.from_numpy(values).permute(2, 0, 1)[None])["logits"].argmax(1)[0]
            np.add.at(confusion, (mask, found.numpy()), 1)
    right = np.diag(confusion)
    return float((right / (confusion.sum(0) + confusion.sum(1) - right)).mean())


def main(names: Sequence[str]) -> None:
    """Write the weights as build/NAME.pt, and build/samples/{images,masks}/."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # such small images gain nothing from a second one
    held_out = [draw(np.random.default_rng([1, index])) for index in range(HELD_OUT)]
    for folder in ("images", "masks"):
        (BUILD / "samples" / folder).mkdir(parents=True, exist_ok=True)
    (BUILD / "samples" / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    for index, (image, mask) in enumerate(held_out):
        Image.fromarray(image).save(BUILD / "samples" / "images" / f"{index:03}.png")
        Image.fromarray(mask).save(BUILD / "samples" / "masks" / f"{index:03}.png")
    (BUILD / "photo.png").write_bytes((BUILD / "samples" / "images" / "000.png").read_bytes())
    for name in names or ("bisenet", "unet"):
        module, factory, steps, rate = PLANS[name]
        made = getattr(importlib.import_module(module), factory)()
        model = train(made, steps, rate, np.random.default_rng(0))
        torch.save(model.state_dict(), BUILD / f"{name}.pt")
        print(f"{name}: mIoU {mean_iou(model, held_out):.3f} on {HELD_OUT} held-out images")


if __name__ == "__main__":
    main(sys.argv[1:])
