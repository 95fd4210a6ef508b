"""``onnxpress convert``: the same model in another file, or no file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from conftest import Shell
from onnxpress import api
from onnxpress.errors import OnnxpressError
from zoo.project import PREPROCESS, SIDE, Project

KEYS = {
    "schema_version", "command", "model", "exporter", "fallback_reason", "opset", "ir_version",
    "inputs", "outputs", "size_bytes", "untried", "verified",
}  # fmt: skip
VERIFIED = {
    "ok", "rtol", "atol", "max_abs_diff", "max_rel_diff", "cases", "first_mismatch", "finite",
}  # fmt: skip


def test_the_file_gives_the_modules_answers(project: Project, shell: Shell, tmp_path: Path) -> None:
    shape = f"input=rows,3,{SIDE},{SIDE}"
    code, out, err = shell(
        "convert", project.ref, "--preprocess", PREPROCESS, "--shape", shape, "-o", "m.onnx",
        "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == KEYS
    assert set(result["verified"]) == VERIFIED
    assert result["verified"]["ok"] is True
    assert [list(case["shapes"]["input"]) for case in result["verified"]["cases"]] == [
        [rows, 3, SIDE, SIDE] for rows in (1, 2, 5)
    ]
    assert result["model"] == "m.onnx"
    assert result["inputs"] == [
        {"name": "input", "dtype": "float32", "shape": ["rows", 3, SIDE, SIDE]}
    ]
    assert result["size_bytes"] == pytest.approx((tmp_path / "m.onnx").stat().st_size, rel=0.01)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((7, 3, SIDE, SIDE)).astype(np.float32)
    with torch.inference_mode():
        expected = project.module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"input": x})[0], expected, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_person_reads_the_same(project: Project, shell: Shell, tmp_path: Path) -> None:
    code, out, err = shell("convert", project.ref, "--preprocess", PREPROCESS, "--no-verify")
    assert (code, err) == (0, "")
    assert out.startswith("model.onnx: ")
    assert f"[batch, 3, {SIDE}, {SIDE}]" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert (tmp_path / "model.onnx").is_file()


NOISY = """
import torch
from torch import nn

class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)

def make():
    return Noisy(), torch.zeros(2, 3)
"""


def test_what_differs_is_not_written(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    before = sorted(tmp_path.iterdir())
    code, out, err = shell("convert", "noisy.py:make", "-o", "m.onnx", "--json")
    result = json.loads(out)
    assert code == 3
    assert result["model"] is None
    assert result["verified"]["ok"] is False
    assert result["verified"]["first_mismatch"]["output"] == "output"
    assert err.startswith("warning: the models differ, nothing is written: output 'output'[")
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--input", "x"], "--input x; expected NAME:DTYPE[dims]"),
        (["--input", "x:number[1]"], "--input has the type number; expected float32"),
        (["--shape", "x"], "--shape x; expected NAME=dims"),
        (["--exporter", "magic"], "'--exporter'"),
        (["--checkpoint", "none.pt"], "--checkpoint none.pt does not exist"),
        (["-o", "none/m.onnx"], "the folder of --output none/m.onnx does not exist"),
        ([], "give --input NAME:DTYPE[dims]"),
    ],
)
def test_refusals(
    words: list[str], expected: str, project: Project, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell("convert", project.ref, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert list(tmp_path.iterdir()) == []


def test_in_python_a_mismatch_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    converted = api.convert(f"{tmp_path}/noisy.py:make", exporter="torchscript")
    assert converted.verified is not None
    assert not converted.verified.ok
    with pytest.raises(OnnxpressError, match="no source reads a list"):
        api.convert([1])
