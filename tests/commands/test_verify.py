"""``onnxpress verify``: the answer is yes (0) or no (3), and where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import Shell
from zoo.project import PREPROCESS, SIDE, Project

KEYS = {"ok", "rtol", "atol", "max_abs_diff", "max_rel_diff", "cases",
        "first_mismatch", "finite"}  # fmt: skip


def shifted(source: Path, target: Path, amount: float) -> Path:
    """The model with ``amount`` more in one weight of its last layer."""
    model = onnx.load(source)
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    tensor = next(each for each in model.graph.initializer if each.name == gemm.input[1])
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[0] += amount
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    "how",
    [
        ["--preprocess", PREPROCESS],
        ["--input", f"input:float32[batch,3,{SIDE},{SIDE}]"],
        ["--preprocess", PREPROCESS, "--samples", "{images}", "--limit", "20"],
        ["--preprocess", PREPROCESS, "--samples", "random:8", "--task", "tensor"],
    ],
)
def test_the_original_and_its_conversion_agree(
    how: list[str], project: Project, project_onnx: Path, shell: Shell
) -> None:
    words = [word.format(images=project.images) for word in how]
    code, out, err = shell("verify", project.ref, project_onnx, *words, "--json")
    assert (code, err) == (0, "")
    verified = json.loads(out)["verified"]
    assert set(verified) == KEYS
    assert verified["ok"] is True
    assert verified["first_mismatch"] is None
    assert 0 <= verified["max_abs_diff"] <= verified["atol"]
    assert {case["shapes"]["input"][0] for case in verified["cases"]} == (
        {4} if "--samples" in how else {1, 2, 5}
    )


def test_a_difference_is_an_answer(project_onnx: Path, shell: Shell, tmp_path: Path) -> None:
    other = shifted(project_onnx, tmp_path / "other.onnx", 5.0)
    code, out, err = shell("verify", project_onnx, other, "--json")
    assert (code, err) == (3, "")
    mismatch = json.loads(out)["verified"]["first_mismatch"]
    assert set(mismatch) >= {"output", "index", "a", "b", "shapes"}
    code, out, err = shell("verify", project_onnx, other)
    assert (code, err) == (3, "")
    assert "different: output " in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["net.onnx", "none.onnx"], "none.onnx does not exist"),
        (["net.onnx", "cut.onnx"], "cut.onnx cannot be read as ONNX"),
        (["net.onnx", "net.onnx", "--samples", "x.npz"], "feeds x; expected the inputs input"),
        (["net.onnx", "net.onnx", "--samples", "{images}"], "--preprocess"),
        (["net.onnx", "net.onnx", "--seed", "-9"], "--seed -9; expected"),
        (["net.onnx", "net.onnx", "--samples", "random:3", "--task", "dance"], "unknown task"),
        (["torch:none.py:make", "net.onnx"], "none.py does not exist"),
        (["{ref}", "net.onnx", "--checkpoint", "none.pt"], "--checkpoint none.pt does not exist"),
    ],
)
def test_refusals(
    words: list[str],
    expected: str,
    project: Project,
    project_onnx: Path,
    shell: Shell,
    tmp_path: Path,
) -> None:
    shutil.copy(project_onnx, tmp_path / "net.onnx")
    (tmp_path / "cut.onnx").write_bytes(project_onnx.read_bytes()[:500])
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, SIDE, SIDE), np.float32))
    filled = [word.format(images=project.images, ref=project.ref) for word in words]
    before = sorted(tmp_path.iterdir())
    code, out, err = shell("verify", *filled)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(tmp_path.iterdir()) == before
