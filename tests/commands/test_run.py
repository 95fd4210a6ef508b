"""``onnxpress run``: a bundle's answers, printed or in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from conftest import Shell
from onnxpress.bundle import BundledForm, Manifest, write
from onnxpress.model import load
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from zoo.bundles import write_bundle
from zoo.project import PREPROCESS, Project, tensor


@pytest.fixture
def digits(project_onnx: Path, tmp_path: Path) -> Path:
    """The classifier as a bundle, written without a press."""
    form = BundledForm("float", "", "", Settings("onnxruntime", threads=1), "float32")
    processing = Processing.parse(PREPROCESS).with_labels([f"digit {n}" for n in range(10)])
    manifest = Manifest(
        "image_classification", load(project_onnx).signature, processing, (form,), "latency", None
    )
    write(tmp_path / "digits", manifest, {"float": project_onnx})
    return tmp_path / "digits"


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    """``y = max(x - 1, 0)`` for rows of three."""
    write_bundle(tmp_path / "tensors")
    (tmp_path / "tensors-model.onnx").unlink()
    return tmp_path / "tensors"


def original(project: Project, paths: list[Path]) -> list[int]:
    """The classes that the torch module itself gives."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    with torch.inference_mode():
        classes: list[int] = project.module(tensor(pixels)).argmax(1).tolist()
    return classes


def test_images(project: Project, digits: Path, shell: Shell) -> None:
    paths = list(project.labels)[::60]
    code, out, err = shell("run", digits, *paths)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(paths)
    assert [line.split(":")[0] for line in lines] == [path.name for path in paths]
    told = [line.split(": ")[1].split(" (")[0] for line in lines]
    assert told == [f"digit {digit}" for digit in original(project, paths)]
    code, out, err = shell("run", digits, paths[0], "--json")
    result = json.loads(out)
    assert set(result) == {"schema_version", "command", "outputs", "form"}
    assert result["form"] == "float"
    (output,) = result["outputs"]
    assert set(output) == {"class", "index", "score", "top"}
    assert lines[0] == f"{paths[0].name}: {output['class']} ({output['score']:.1%})"


def test_a_folder_and_a_file_of_them(
    project: Project, digits: Path, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell("run", digits, "--input-file", project.images, "-o", "o.jsonl", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["outputs"], result["output"]) == (600, "o.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    paths = [project.images / line["name"] for line in lines]
    assert paths == sorted(project.labels)
    assert [line["output"]["index"] for line in lines] == original(project, paths)
    assert not list(tmp_path.glob(".*"))


def test_tensors(tensors: Path, shell: Shell, tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    np.savez(tmp_path / "x.npz", x=x)
    code, out, err = shell("run", tensors, "x.npz", "--json")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(
        [row["y"] for row in json.loads(out)["outputs"]], np.maximum(x - 1, 0)
    )
    code, out, err = shell("run", tensors, "--input-file", "x.npz", "-o", "y.jsonl")
    assert (code, out, err) == (0, "20 predictions in y.jsonl (onnxruntime-float32)\n", "")
    lines = [json.loads(line) for line in (tmp_path / "y.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal([row["output"]["y"] for row in lines], np.maximum(x - 1, 0))
    code, out, _ = shell("run", tensors, "x.npz")
    assert out.splitlines()[1] == "row 1: y float32[3] 2 3 4"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digits", "none.png"], "none.png does not exist"),
        (["digits", "broken.png"], "broken.png cannot be read as an image"),
        (["digits", "good.png", "broken.png", "-o", "o.jsonl"], "broken.png cannot be read"),
        (["digits"], "no input; expected files or texts to predict on, or --input-file"),
        (
            ["digits", "good.png", "--input-file", "x.npz"],
            "inputs and --input-file; expected",
        ),
        (["digits", "good.png", "--threads", "0"], "--threads 0; expected"),
        (["digits", "good.png", "-o", "none/o.jsonl"], "none/o.jsonl does not exist"),
        (["digits", "good.png", "-o", "."], "is a folder"),
        (["digits", "x.npz"], "feeds x; expected the inputs input"),
        (["tensors", "good.png"], "is an image, and the task 'tensor' takes tensors"),
        (["tensors", "wide.npz"], "float64[4]; expected float32[3] for each record"),
        (["tensors", "empty.npz"], "holds no samples"),
        (["none", "x.npz"], "none is not a bundle"),
    ],
)
def test_refusals(
    words: list[str], expected: str, digits: Path, tensors: Path, shell: Shell, tmp_path: Path
) -> None:
    Image.new("RGB", (24, 24)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.float32))
    np.savez(tmp_path / "wide.npz", x=np.zeros((2, 4)))
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 3), np.float32))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = shell("run", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(tmp_path.rglob("*")) == before


def test_boxes_are_told_line_by_line(tmp_path: Path, shell: Shell) -> None:
    """A detector that always says the same, on an image twice as wide as it sees."""
    rows = np.zeros((1, 2, 6), np.float32)
    rows[0] = [[32, 32, 16, 8, 0.9, 0], [8, 20, 4, 4, 0, 0.125 * 3]]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMin", ["x"], ["least"], keepdims=0),
            onnx.helper.make_node("Sub", ["least", "least"], ["zero"]),
            onnx.helper.make_node("Add", ["zero", "rows"], ["boxes"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1, 2, 6])],
        [onnx.numpy_helper.from_array(rows, "rows")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m")
    form = BundledForm("float", "", "", Settings("onnxruntime", threads=1), "float32")
    processing = Processing.parse("letterbox=114").with_labels(["cat", "ocelot"])
    manifest = Manifest(
        "detection", load(tmp_path / "m").signature, processing, (form,), "latency", None
    )
    write(tmp_path / "bundle", manifest, {"float": tmp_path / "m"})
    Image.new("RGB", (128, 64)).save(tmp_path / "zoo.png")
    code, out, err = shell("run", tmp_path / "bundle", tmp_path / "zoo.png")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "zoo.png: 2 objects",
        "  cat     90.0%  at 48,24  32×16",
        "  ocelot  37.5%  at 12,4  8×8",
    ]
    code, out, err = shell("run", tmp_path / "bundle", tmp_path / "zoo.png", "--json")
    [found] = json.loads(out)["outputs"]
    assert found["detections"][0]["box"] == pytest.approx([48, 24, 32, 16])
