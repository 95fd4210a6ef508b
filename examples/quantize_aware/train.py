"""Trains the network, quantises it to few bits, and trains it again as it will be quantised."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from model import DigitNet
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import onnxpress

BUILD = Path(__file__).parent / "build"
BATCH, HELD_OUT = 64, 600

Loader = DataLoader[tuple[torch.Tensor, ...]]


def main(bits: int) -> None:
    """Print the accuracies on held-out images, and write each model to build/."""
    BUILD.mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums of several threads round in another order
    torch.use_deterministic_algorithms(True)
    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(classes)
    order = torch.randperm(len(images))
    kept, held = order[HELD_OUT:], order[:HELD_OUT]
    loader = DataLoader(TensorDataset(images[kept], targets[kept]), BATCH, shuffle=True)

    network = trained(loader)
    original = onnxpress.convert((network, images[:2])).model
    original.save(BUILD / "float.onnx")

    np.savez(BUILD / "seen.npz", image=images[kept].numpy(), labels=classes[kept])
    plain = onnxpress.quantize(original, scheme="static", samples=BUILD / "seen.npz", bits=bits)
    plain.model.save(BUILD / "static.onnx")

    aware = onnxpress.quantize_aware(network, samples=loader, weight_bits=bits)
    aware.fit(loader, functional.cross_entropy, epochs=6, lr=1e-3)
    aware.export(BUILD / "aware.onnx")

    names = {"float": "float32", "static": f"{bits} bits", "aware": f"{bits} bits, trained"}
    for file, name in names.items():
        right = answers(BUILD / f"{file}.onnx", images[held]) == classes[held]
        print(f"{name:16} {right.sum()} of {len(right)} right, {right.mean():.1%}")


def trained(loader: Loader, epochs: int = 6) -> DigitNet:
    """In evaluation mode."""
    network = DigitNet()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
    return network.eval()


def answers(path: Path, images: torch.Tensor) -> np.ndarray:
    """The classes that the file tells in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"image": images.numpy()})[0]
    return logits.argmax(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
