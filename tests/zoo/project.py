"""A real little classifier, as a user would bring it: a factory, weights and images."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

FACTORY = '''
"""What a user brings: a factory in a file of their own."""
from pathlib import Path

import torch
from torch import nn


def network():
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10),
    )


def make():
    model = network()
    model.load_state_dict(torch.load(Path(__file__).parent / "net.pt", weights_only=True))
    return model


def unseeded():
    return network()


def raises():
    raise ValueError("the weights are gone")


def nothing():
    return None
'''

SIDE = 24
PREPROCESS = f"size={SIDE},mean=0.5,std=0.25"
ROUNDS = 5


@dataclass(frozen=True)
class Project:
    """A user's folder: ``net.py`` with ``net.pt`` beside it, ``images/<digit>/*.png``."""

    folder: Path
    images: Path
    ref: str
    module: nn.Module
    labels: dict[Path, int]


def build(folder: Path) -> Project:
    """Trained for a second or two on scikit-learn's digits, made RGB."""
    (folder / "net.py").write_text(FACTORY, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("project_net", folder / "net.py")
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    torch.manual_seed(0)
    small, labels = load_digits(return_X_y=True)
    pixels = (small.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(i).resize((SIDE, SIDE))) for i in pixels])
    module = code.network().train()
    optimizer = torch.optim.Adam(module.parameters(), 5e-3)
    rng = np.random.default_rng(0)
    for _ in range(160):
        batch = rng.integers(700, len(large), 64)
        loss = functional.cross_entropy(
            module(tensor(large[batch])), torch.from_numpy(labels[batch])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(module.state_dict(), folder / "net.pt")
    where = {}
    for index in range(600):
        path = folder / "images" / str(labels[index]) / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(large[index]).save(path)
        where[path] = int(labels[index])
    return Project(folder, folder / "images", f"torch:{folder}/net.py:make", module.eval(), where)


def tensor(images: np.ndarray) -> torch.Tensor:
    """What PREPROCESS says, written independently."""
    values = (images.astype(np.float32) / 255 - 0.5) / 0.25
    return torch.from_numpy(values)[:, None].expand(-1, 3, -1, -1).contiguous()


def command(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onnxpress", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
        timeout=240,
    )


def press_words(project: Project, bundle: Path) -> list[object]:
    return ["press", project.ref, "--samples", project.images, "--preprocess", PREPROCESS,
            "--rounds", ROUNDS, "-o", bundle]  # fmt: skip
