"""Segmentation networks of any depth, width, size and number of classes convert, proven equal."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pictures_to_masks_side_by_side(tmp_path: Path) -> None:
    """The commands of the README's comparison: int8 keeps both networks' mIoU."""
    pytest.importorskip("PIL")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    folder = tmp_path / "segmentation"
    shutil.copytree(
        examples.FOLDER / folder.name, folder, ignore=shutil.ignore_patterns("build", "__pycache__")
    )
    said = [examples.run(command, folder) for command in examples.typed(folder.name)]
    tables = [text for text in said if "from records to predictions" in text]
    assert len(tables) == 2
    for table in tables:
        assert all(len(line) <= 80 for line in table.splitlines())
        rows = [line for line in table.splitlines() if ".onnx" in line or "torch:" in line]
        assert len(rows) >= 3
