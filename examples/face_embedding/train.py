"""Trains on drawn faces of 120 people, and writes weights and faces of other people to build/."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from model import MobileFaceNet, make
from PIL import Image, ImageDraw, ImageFilter
from torch.nn import functional

BUILD = Path(__file__).parent / "build"
SIZE, PEOPLE, STRANGERS, STEPS, BATCH = 64, 120, 30, 250, 32
SCALE, MARGIN = 24.0, 0.25
"""ArcFace's: Deng et al. (2019), "ArcFace: additive angular margin loss", CVPR."""


@dataclass(frozen=True)
class Person:
    """What stays from photo to photo: proportions as shares of the picture, and colours."""

    face: tuple[float, float]
    eyes: tuple[float, float, float]
    nose: float
    mouth: tuple[float, float]
    hair: float
    colours: tuple[tuple[int, ...], ...]


def person(rng: np.random.Generator) -> Person:
    """A face that nobody has had before."""

    def share(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    skin = np.array([230, 190, 160]) * share(0.4, 1.05) + rng.normal(0, 8, 3)
    colours = (
        skin,
        rng.uniform(0, 130, 3),
        rng.uniform(20, 170, 3),
        rng.uniform([120, 20, 30], 190),
    )
    return Person(
        face=(share(0.27, 0.4), share(0.34, 0.45)),
        eyes=(share(0.1, 0.19), share(0.38, 0.48), share(0.03, 0.06)),
        nose=share(0.06, 0.17),
        mouth=(share(0.07, 0.17), share(0.68, 0.76)),
        hair=share(0.16, 0.34),
        colours=tuple(tuple(colour.clip(0, 255).astype(int).tolist()) for colour in colours),
    )


def photo(who: Person, rng: np.random.Generator) -> Image.Image:
    """One picture of SIZE × SIZE: another place, size, light, background and noise each time."""
    large = 2 * SIZE
    zoom, (right, down) = rng.uniform(0.92, 1.08), rng.normal(0, 0.015, 2)
    image = Image.new("RGB", (large, large), tuple(rng.integers(0, 256, 3).tolist()))
    canvas = ImageDraw.Draw(image)

    def oval(x: float, y: float, wide: float, high: float, colour: tuple[int, ...]) -> None:
        x, y = 0.5 + right + (x - 0.5) * zoom, 0.5 + down + (y - 0.5) * zoom
        box = (x - wide * zoom, y - high * zoom, x + wide * zoom, y + high * zoom)
        canvas.ellipse([side * large for side in box], colour)

    skin, hair, iris, lips = who.colours
    wide, high = who.face
    oval(0.5, 0.5 - high + who.hair, wide * 1.15, who.hair * 1.15, hair)
    oval(0.5, 0.54, wide, high, skin)
    apart, level, radius = who.eyes
    for side in (-apart, apart):
        oval(0.5 + side, level, radius * 1.6, radius, (245, 245, 245))
        oval(0.5 + side, level, radius * 0.8, radius * 0.8, iris)
    oval(0.5, 0.57, 0.02, who.nose / 2, tuple(int(0.75 * level) for level in skin))
    oval(0.5, who.mouth[1], who.mouth[0], 0.018 + 0.012 * rng.random(), lips)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5))).resize((SIZE, SIZE))
    light = rng.uniform(0.75, 1.2) + rng.normal(0, 0.03, 3)
    pixels = np.asarray(image) * light + rng.normal(0, 8, (SIZE, SIZE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def tensor(photos: list[Image.Image]) -> torch.Tensor:
    """As ``--preprocess mean=0.5,std=0.5`` prepares them."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(people: list[Person], steps: int = STEPS, seed: int = 0) -> MobileFaceNet:
    """ArcFace: a person's vectors lie nearer to its own centre, by a margin, than to any other."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = make()[0].train()
    centres = torch.nn.Parameter(torch.randn(len(people), 64))
    optimizer = torch.optim.AdamW([*model.parameters(), centres], 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    for step in range(steps):
        who = rng.integers(len(people), size=BATCH)
        vectors = model(tensor([photo(people[index], rng) for index in who]))["embedding"]
        cosines = vectors @ functional.normalize(centres).T
        right = functional.one_hot(torch.from_numpy(who), len(people)).bool()
        angles = torch.acos(cosines.clamp(-1 + 1e-6, 1 - 1e-6))
        logits = SCALE * torch.where(right, torch.cos(angles + MARGIN), cosines)
        loss = functional.cross_entropy(logits, torch.from_numpy(who))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:3} of {steps}  loss {loss.item():.3f}")
    return model.eval()


def main() -> None:
    """Trains, tells how well strangers are told apart, and writes build/."""
    began = time.perf_counter()
    rng = np.random.default_rng(1)
    model = train([person(rng) for _ in range(PEOPLE)])
    strangers = [person(rng) for _ in range(STRANGERS)]
    photos = [[photo(who, rng) for _ in range(8)] for who in strangers]
    with torch.inference_mode():
        vectors = torch.stack([model(tensor(of_one))["embedding"] for of_one in photos])
    found = vectors[:, 1:].flatten(0, 1) @ vectors[:, 0].T
    right = (found.argmax(1).view(STRANGERS, -1) == torch.arange(STRANGERS)[:, None]).float()
    took = time.perf_counter() - began
    print(
        f"{right.mean():.1%} of strangers are told from {STRANGERS} by one photo, in {took:.0f} s"
    )
    for number, of_one in enumerate(photos):
        folder = BUILD / "faces" / f"person{number:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(of_one):
            image.save(folder / f"{index}.png")
    photos[0][0].save(BUILD / "face.png")
    torch.save(model.state_dict(), BUILD / "mobilefacenet.pt")


if __name__ == "__main__":
    main()
