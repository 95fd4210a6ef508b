"""A model of one product, small enough to write by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxpress import model as model_module
from onnxpress.model import Model
from zoo.graphs import answers, parse

WEIGHT = np.arange(400, dtype=np.float32).reshape(4, 100)
FEEDS = {"x": np.ones((2, 4), np.float32)}


def linear(weight: np.ndarray = WEIGHT) -> Model:
    return parse("(float[n, 4] x) => (float[n, 100] y) { y = MatMul(x, w) }", w=weight)


def answer(model: Model, feeds: dict[str, np.ndarray] = FEEDS) -> np.ndarray:
    """Of the model as it stands in memory, with external data read."""
    with model_module.embedded(model.ir):
        return answers(model, feeds)[0]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
