"""Segmentation networks of any depth, width, size and number of classes convert, proven equal."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch

from onnxpress import api
from onnxpress.signature import TensorSpec
from zoo import examples


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["UNet", "BiSeNet"])
def test_a_network_drawn_at_random(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(name)])
    network = getattr(examples.load("segmentation"), name)
    drawn = {"classes": int(rng.integers(2, 9)), "width": int(rng.integers(2, 9))}
    if name == "UNet":
        drawn["depth"] = int(rng.integers(1, 4))
    side = 16 * int(rng.integers(1, 4))
    torch.manual_seed(seed)
    converted = api.convert(
        network(**drawn), inputs=[TensorSpec("x", "float32", ("batch", 3, side, side))]
    )
    assert converted.verified is not None
    assert converted.verified.ok
    [output] = converted.model.signature.outputs
    assert output.name == "logits"
    assert output.shape == ("batch", drawn["classes"], side, side)


@pytest.fixture
def segmentation() -> Iterator[ModuleType]:
    """``torchvision.models.segmentation``."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):  # a CPU build of torch lacks what torchvision's wheel expects
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield importlib.import_module("torchvision.models.segmentation")
    library._destroy()


@pytest.mark.slow
def test_deeplab_of_torchvision(segmentation: ModuleType) -> None:
    """Random weights, a dict of outputs."""
    torch.manual_seed(0)
    network = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    converted = api.convert(network, inputs=[TensorSpec("x", "float32", ("batch", 3, 64, 96))])
    assert converted.verified is not None
    assert converted.verified.ok
    [output] = converted.model.signature.outputs
    assert output.shape == ("batch", 5, 64, 96)
