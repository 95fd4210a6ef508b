"""``onnxpress optimize``: fewer nodes, the same answers, and the proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from conftest import Shell
from onnxpress import api

ModelPath = Callable[[str], Path]


def test_json_and_file(zoo_model: ModelPath, shell: Shell, tmp_path: Path) -> None:
    source = zoo_model("cnn_bn")
    code, out, err = shell("optimize", source, "-o", "o.onnx", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == {
        "schema_version", "command", "model", "before", "after", "passes", "verified",
    }  # fmt: skip
    for side in ("before", "after"):
        assert set(result[side]) == {"nodes", "ops", "size_bytes"}
    for step in result["passes"]:
        assert set(step) == {"name", "changed", "rewrites", "reverted", "reason"}
    assert result["after"]["nodes"] < result["before"]["nodes"]
    assert "BatchNormalization" in result["before"]["ops"]
    assert "BatchNormalization" not in result["after"]["ops"]
    assert result["verified"]["ok"] is True
    assert result["before"]["size_bytes"] == source.stat().st_size
    saved = (tmp_path / "o.onnx").stat().st_size
    assert saved < source.stat().st_size
    assert result["after"]["size_bytes"] == pytest.approx(saved, abs=16)
    inspected = api.inspect(tmp_path / "o.onnx")
    assert inspected.nodes == result["after"]["nodes"]
    assert api.verify(source, tmp_path / "o.onnx").ok
    assert [path.name for path in tmp_path.iterdir()] == ["o.onnx"]


def test_a_person_reads_every_pass(zoo_model: ModelPath, shell: Shell, tmp_path: Path) -> None:
    code, out, err = shell("optimize", zoo_model("cnn_bn"), "--recipe", "fuse_conv_bn")
    assert (code, err) == (0, "")
    assert "fuse_conv_bn" in out
    assert "eliminate_dead" not in out
    assert "the same answers" in out
    assert " kB → " in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert (tmp_path / "optimized.onnx").is_file()


def test_it_may_replace_its_input(zoo_model: ModelPath, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(zoo_model("mlp").read_bytes())
    assert shell("optimize", path, "-o", path, "--quiet") == (0, "", "")
    assert api.verify(zoo_model("mlp"), path).ok
    assert zoo.feeds(path, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--recipe", "quantize_static"], "quantize_static changes what a model answers"),
        (["--recipe", ","], "--recipe is empty"),
        (["--samples", "none.npz"], "--samples none.npz does not exist"),
        (["--samples", "random:4", "--limit", "-1"], "--limit -1; expected"),
        (["-o", "."], "is a folder"),
    ],
)
def test_refusals(
    words: list[str], expected: str, zoo_model: ModelPath, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell("optimize", zoo_model("mlp"), *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert list(tmp_path.iterdir()) == []
