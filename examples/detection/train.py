"""Trains the detector on drawn shapes, and writes weights and annotated images to build/."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from model import NAMES, STRIDE, Detector, make
from PIL import Image, ImageDraw
from torch.nn import functional

BUILD = Path(__file__).parent / "build"
SIZE, GRAY = 96, 114
STEPS, BATCH, HELD_OUT = 400, 16, 200


def draw(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A noisy picture of 160×120 with one to four shapes; (n, 5) class, left, top, width, height.

    No shape covers more than a fifth of another.
    """
    low, high = np.sort(rng.integers(0, 256, (2, 3)), axis=0)
    image = Image.fromarray(rng.integers(low, high + 1, (120, 160, 3)).astype(np.uint8))
    canvas, boxes = ImageDraw.Draw(image), []
    for _ in range(rng.integers(1, 5)):
        label, side = int(rng.integers(len(NAMES))), int(rng.integers(16, 49))
        left, top = int(rng.integers(0, 160 - side)), int(rng.integers(0, 120 - side))
        right, bottom = left + side, top + side
        if any(covered(box, (left, top, side)) for box in boxes):
            continue
        colour = tuple(rng.integers(0, 256, 3).tolist())
        if NAMES[label] == "circle":
            canvas.ellipse((left, top, right - 1, bottom - 1), colour)
        elif NAMES[label] == "square":
            canvas.rectangle((left, top, right - 1, bottom - 1), colour)
        else:
            tip = ((left + right) // 2, top)
            canvas.polygon([tip, (left, bottom - 1), (right - 1, bottom - 1)], colour)
        boxes.append((label, left, top, side, side))
    return image, np.array(boxes, np.float32).reshape(-1, 5)


def covered(box: tuple[int, ...], new: tuple[int, int, int]) -> bool:
    """Whether two squares share more than a fifth of the smaller one."""
    _, left, top, side, _ = box
    wide = min(left + side, new[0] + new[2]) - max(left, new[0])
    high = min(top + side, new[1] + new[2]) - max(top, new[1])
    return max(wide, 0) * max(high, 0) > min(side, new[2]) ** 2 / 5


def batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Letterboxed images (count, 3, SIZE, SIZE) in 0…1 and their boxes in those pixels."""
    pixels = np.full((count, SIZE, SIZE, 3), GRAY, np.uint8)
    boxes = []
    for canvas in pixels:
        image, found = draw(rng)
        canvas[12:84] = np.asarray(image.resize((96, 72), Image.Resampling.BILINEAR))
        boxes.append(torch.from_numpy(found * [1, 0.6, 0.6, 0.6, 0.6] + [0, 0, 12, 0, 0]).float())
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, boxes


def loss(model: Detector, images: torch.Tensor, truth: list[torch.Tensor]) -> torch.Tensor:
    """Focal loss for the classes, 1 - IoU for the boxes of the cells in the middle of an object."""
    boxes, logits = model.raw(images)
    cells = torch.arange(SIZE // STRIDE) * STRIDE + STRIDE / 2
    y, x = (axis.flatten() for axis in torch.meshgrid(cells, cells, indexing="ij"))
    rows = torch.arange(len(truth)).repeat_interleave(torch.tensor([len(each) for each in truth]))
    label, left, top, width, height = torch.cat(truth).T
    across = (x - (left + width / 2)[:, None]).abs()
    down = (y - (top + height / 2)[:, None]).abs()
    which, cell = torch.nonzero((across < STRIDE) & (down < STRIDE), as_tuple=True)
    wanted = torch.zeros_like(logits)
    wanted[rows[which], cell, label[which].long()] = 1
    corners = torch.stack([left, top, left + width, top + height], dim=1)[which]
    missed = (1 - overlap(boxes[rows[which], cell], corners)).sum()
    chance = logits.sigmoid()
    miss = (wanted - chance).abs()
    weight = torch.where(wanted > 0, 0.25, 0.75) * miss**2
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return ((weight * entropy).sum() * 4 + missed) / max(len(which), 1)


def overlap(boxes: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Intersection over union of (n, 4) centre boxes with (n, 4) corners, pair by pair."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    shared = torch.minimum(high, corners[:, 2:]) - torch.maximum(low, corners[:, :2])
    shared = shared.clamp(0).prod(1)
    union = boxes[:, 2:].prod(1) + (corners[:, 2:] - corners[:, :2]).prod(1) - shared
    return shared / union


def train(steps: int = STEPS, seed: int = 0) -> Detector:
    """From scratch, on pictures that are drawn as they are needed."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    for step in range(steps):
        value = loss(model, *batch(rng, BATCH))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:4} of {steps}  loss {value.item():.3f}")
    return model.eval()


def write(count: int = HELD_OUT, seed: int = 1) -> None:
    """``photos/`` with COCO's annotations, and one more picture."""
    rng = np.random.default_rng(seed)
    folder = BUILD / "photos"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        image, boxes = draw(rng)
        name = f"{number:03}.png"
        image.save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "width": 160, "height": 120})
        for label, *box in boxes.tolist():
            entry = {"image_id": number, "category_id": int(label), "bbox": box}
            annotations.append({"id": len(annotations) + 1, **entry})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    draw(rng)[0].save(BUILD / "photo.png")


def main() -> None:
    """Trains and writes build/."""
    began = time.perf_counter()
    BUILD.mkdir(exist_ok=True)
    model = train()
    torch.save(model.state_dict(), BUILD / "weights.pt")
    write()
    print(f"trained in {time.perf_counter() - began:.0f} s: build/weights.pt, build/photos/")


if __name__ == "__main__":
    main()
