"""The examples' networks convert at other sizes than theirs: depth, width, input and classes drawn.

Conversion is proven against the module itself on several batches, and images of other sizes where
the network takes any.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxpress
from onnxpress.signature import TensorSpec
from onnxpress.verbs.convert import Converted
from zoo import examples

SEEDS = pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])


def drawn(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """With statistics of normalisation and weights as if it were trained."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=generator) * 0.1
            layer.running_var = torch.rand(layer.num_features, generator=generator) + 0.5
    return module.eval()


def converted(module: torch.nn.Module, height: int, width: int, channels: int) -> Converted:
    inputs = (TensorSpec("image", "float32", ("batch", channels, height, width)),)
    result = onnxpress.convert(module, inputs=inputs)
    assert result.verified is not None
    assert result.verified.ok, result.verified.first_mismatch
    return result


def outputs(result: Converted) -> dict[str, tuple[int | str, ...] | None]:
    return {spec.name: spec.shape for spec in result.model.signature.outputs}


@SEEDS
def test_mobilenets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = examples.load("image_classification")
    table = [
        (int(rng.integers(1, 5)), int(rng.integers(8, 40)), int(rng.integers(1, 4)), stride)
        for stride in rng.integers(1, 3, rng.integers(2, 5)).tolist()
    ]
    classes, channels = int(rng.integers(2, 40)), int(rng.choice([1, 3]))
    net = model.MobileNetV2(classes, float(rng.uniform(0.3, 1.2)), table, channels)
    sides = (int(rng.integers(24, 60)), int(rng.integers(24, 60)))
    result = converted(drawn(net, seed), *sides, channels)
    assert list(outputs(result).values()) == [("batch", classes)]


@SEEDS
def test_mobile_face_nets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = examples.load("face_embedding")
    table = [
        (int(rng.integers(1, 4)), int(rng.integers(16, 64)), int(rng.integers(1, 3)), stride)
        for stride in (2, 1, 2, int(rng.integers(1, 3)))
    ]
    dimensions, size = int(rng.integers(8, 100)), 16 * int(rng.integers(2, 5))
    net = model.MobileFaceNet(dimensions, size, float(rng.uniform(0.3, 1)), table)
    result = converted(drawn(net, seed), size, size, 3)
    assert outputs(result) == {"embedding": ("batch", dimensions)}


@SEEDS
def test_detectors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = examples.load("detection")
    classes, depth = int(rng.integers(1, 30)), int(rng.integers(0, 3))
    net = model.Detector(classes, int(rng.integers(4, 20)), depth)
    height, width = (16 * int(side) for side in rng.integers(2, 8, 2))
    result = converted(drawn(net, seed), height, width, 3)
    cells = height * width // 64
    assert list(outputs(result).values()) == [("batch", cells, 4 + classes)]
