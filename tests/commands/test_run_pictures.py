"""``onnxpress run`` with models whose answers are pictures: told in a line, written as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from conftest import Shell
from onnxpress.bundle import BundledForm, Manifest, write
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from onnxpress.signature import Signature, TensorSpec

SHAPE = ("n", 3, 8, 8)


def bundled(folder: Path, task: str, labels: tuple[str, ...] = ()) -> Path:
    """``y = x``: as a segmentation the strongest colour is the class."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", *([v] for v in values)
    )
    opset = helper.make_opsetid("", 17)
    model = folder.with_suffix(".onnx")
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), model)
    specs = [TensorSpec(name, "float32", SHAPE) for name in "xy"]
    form = BundledForm("float", "", "", Settings("onnxruntime", threads=1), "float32")
    processing = Processing.parse("size=8,interpolation=nearest").with_labels(labels)
    signature = Signature((specs[0],), (specs[1],))
    write(folder, Manifest(task, signature, processing, (form,), "latency", None), {"float": model})
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """32×16 pixels: a quarter of it green, the rest red."""
    pixels = np.zeros((32, 16, 3), np.uint8)
    pixels[:, :, 0] = 200
    pixels[:8] = (10, 250, 10)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return bundled(tmp_path / "bundle", "segmentation", ("red", "green", "blue"))


def test_the_shares_of_the_classes(masks: Path, photo: Path, shell: Shell) -> None:
    code, out, err = shell("run", masks, photo)
    assert (code, out, err) == (0, "photo.png: 16×32 pixels: red 75.0%, green 25.0%\n", "")
    code, out, _ = shell("run", masks, photo, "--json")
    assert code == 0
    assert json.loads(out)["outputs"] == [
        {"size": [32, 16], "shares": {"red": 0.75, "green": 0.25}}
    ]


def test_masks_are_written_as_large_as_their_images(
    masks: Path, photo: Path, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell("run", masks, photo, "-o", "mask.png")
    assert (code, out, err) == (0, "1 predictions in mask.png (float)\n", "")
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    np.testing.assert_array_equal(mask, np.repeat([1, 0, 0, 0], 8)[:, np.newaxis].repeat(16, 1))
    Image.open(photo).save(tmp_path / "other.png")
    assert shell("run", masks, photo, "other.png", "-o", "several")[0] == 0
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == [
        "other.png",
        "photo.png",
    ]
    assert shell("run", masks, photo, "-o", "shares.jsonl")[0] == 0
    [line] = (tmp_path / "shares.jsonl").read_text().splitlines()
    assert json.loads(line)["output"]["shares"] == {"red": 0.75, "green": 0.25}


def test_images_are_written(photo: Path, shell: Shell, tmp_path: Path) -> None:
    bundle = bundled(tmp_path / "bundle", "image_to_image")
    code, out, _ = shell("run", bundle, photo)
    assert (code, out) == (0, "photo.png: 8×8 pixels\n")
    assert shell("run", bundle, photo, "-o", "out.png")[0] == 0
    made = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(made, np.asarray(Image.open(photo))[2::4, 1::2])


def test_two_results_for_one_file(masks: Path, photo: Path, shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell("run", masks, photo, photo, "-o", "mask.png")
    assert code == 2
    assert "two results for mask.png; expected a file for each; give a folder" in " ".join(
        err.split()
    )


def test_other_tasks_make_no_images(photo: Path, shell: Shell, tmp_path: Path) -> None:
    from zoo.bundles import write_bundle

    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3), np.float32))
    bundle = write_bundle(tmp_path / "tensors")
    code, _, err = shell("run", bundle, "x.npz", "-o", "out.png")
    assert code == 2
    assert "--output out.png; expected a .jsonl: task tensor makes no images" in " ".join(
        err.split()
    )
