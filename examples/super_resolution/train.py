"""Train on crops of scikit-learn's two photos; write weights and held-out samples into build/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from model import SCALE, SubPixel, make
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional

BUILD = Path(__file__).parent / "build"
SIDE, HELD_OUT, BATCH, STEPS = 32, 160, 16, 600
LARGE = SIDE * SCALE


def shrunk(large: np.ndarray) -> np.ndarray:
    """The photo at half of the size, as a camera of less resolution takes it (bicubic)."""
    image = Image.fromarray(large)
    size = (image.width // SCALE, image.height // SCALE)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def parts() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The left two thirds of both photos to learn from, the right thirds to judge by."""
    photos = load_sample_images().images
    cut = 2 * photos[0].shape[1] // 3
    return [photo[:, :cut] for photo in photos], [photo[:, cut:] for photo in photos]


def crop(photos: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """uint8 (64, 64, 3) from a random place."""
    photo = photos[rng.integers(len(photos))]
    top = rng.integers(photo.shape[0] - LARGE + 1)
    left = rng.integers(photo.shape[1] - LARGE + 1)
    return photo[top : top + LARGE, left : left + LARGE]


def tensor(images: list[np.ndarray]) -> torch.Tensor:
    """float32 (batch, 3, H, W) in 0 to 1, as ``--preprocess size=32`` makes it."""
    values = np.stack(images).astype(np.float32) / 255
    return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()


def train(photos: list[np.ndarray], rng: np.random.Generator) -> SubPixel:
    """With Adam on the absolute difference; the learning rate rises and falls once."""
    model, _ = make()
    optimizer = torch.optim.Adam(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    for _ in range(STEPS):
        large = [crop(photos, rng) for _ in range(BATCH)]
        wanted = tensor(large)
        loss = functional.l1_loss(model(tensor([shrunk(one) for one in large]))["image"], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """In dB, of levels from 0 to 255."""
    error = float(((found.astype(np.float64) - wanted) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1 / 12)))


def main() -> None:
    """Write build/subpixel.pt and build/samples/{images,targets}/, and compare with bicubic."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # such small images gain nothing from a second one
    seen, unseen = parts()
    model = train(seen, np.random.default_rng(0))
    BUILD.mkdir(exist_ok=True)
    torch.save(model.state_dict(), BUILD / "subpixel.pt")
    rng = np.random.default_rng(1)
    scores: dict[str, list[float]] = {"bicubic": [], "sub-pixel network": []}
    for index in range(HELD_OUT):
        large = crop(unseen, rng)
        small = shrunk(large)
        for folder, image in (("images", small), ("targets", large)):
            path = BUILD / "samples" / folder / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        bicubic = Image.fromarray(small).resize((LARGE, LARGE), Image.Resampling.BICUBIC)
        with torch.inference_mode():
            levels = model(tensor([small]))["image"][0].permute(1, 2, 0).numpy() * 255
        scores["bicubic"].append(psnr(np.asarray(bicubic), large))
        scores["sub-pixel network"].append(psnr(levels.clip(0, 255), large))
    for name, found in scores.items():
        print(f"{name}: {np.mean(found):.2f} dB on {HELD_OUT} held-out crops")
    if np.mean(scores["sub-pixel network"]) <= np.mean(scores["bicubic"]):
        raise SystemExit("the network is no better than bicubic scaling")
    (BUILD / "small.png").write_bytes((BUILD / "samples" / "images" / "000.png").read_bytes())


if __name__ == "__main__":
    main()
