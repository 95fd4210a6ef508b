"""Trains on scikit-learn's handwritten digits, and writes weights and held-out images to build/."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from model import MobileNetV2, make
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

BUILD = Path(__file__).parent / "build"
SIZE, EPOCHS, BATCH, HELD_OUT = 32, 10, 64, 600


def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797, SIZE, SIZE) and the classes, in a seeded order."""
    small, classes = load_digits(return_X_y=True)
    images = [
        Image.fromarray(row).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        for row in (small.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    ]
    order = np.random.default_rng(0).permutation(len(images))
    return np.stack(images)[order], classes[order]


def tensor(images: np.ndarray) -> torch.Tensor:
    """As ``--preprocess mean=0.5,std=0.5`` prepares them."""
    return (torch.from_numpy(images)[:, None].float() / 255 - 0.5) / 0.5


def train(images: np.ndarray, classes: np.ndarray, epochs: int = EPOCHS) -> MobileNetV2:
    """From scratch, on digits that are moved by up to three pixels."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, epochs * (len(images) // BATCH))
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[at : at + BATCH]
            moved = torch.roll(tensor(images[batch]), tuple(rng.integers(-3, 4, 2)), (2, 3))
            loss = functional.cross_entropy(model(moved), torch.from_numpy(classes[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2} of {epochs}  loss {loss.item():.3f}")
    return model.eval()


def main() -> None:
    """Trains, tells the accuracy on held-out digits, and writes build/."""
    began = time.perf_counter()
    images, classes = digits()
    model = train(images[HELD_OUT:], classes[HELD_OUT:])
    with torch.inference_mode():
        right = model(tensor(images[:HELD_OUT])).argmax(1).numpy() == classes[:HELD_OUT]
    print(
        f"{right.mean():.1%} of {HELD_OUT} held-out digits, in {time.perf_counter() - began:.0f} s"
    )
    for digit in range(10):
        (BUILD / "digits" / str(digit)).mkdir(parents=True, exist_ok=True)
    for number in range(1, HELD_OUT):
        path = BUILD / "digits" / str(classes[number]) / f"{number:03}.png"
        Image.fromarray(images[number]).save(path)
    Image.fromarray(images[0]).save(BUILD / "digit.png")
    torch.save(model.state_dict(), BUILD / "weights.pt")


if __name__ == "__main__":
    main()
