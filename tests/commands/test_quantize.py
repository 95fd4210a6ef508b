"""``onnxpress quantize``: what it gained and cost, told of the saved file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Shell
from crashes import survey
from onnxpress import api
from zoo.project import PREPROCESS, SIDE, Project

pytestmark = pytest.mark.usefixtures("quick")

KEYS = {
    "schema_version", "command", "model", "scheme", "engine", "before", "after", "quality",
    "floor", "holds", "faster", "speedup", "kept_float", "calibration", "executed",
    "random_samples", "warnings", "recipe", "sensitivity", "settings", "not_faster_because",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["static", "weight-only"])
def test_json_and_file(
    scheme: str, project: Project, project_onnx: Path, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell(
        "quantize", project_onnx, "--scheme", scheme, "--samples", project.images,
        "--preprocess", PREPROCESS, "--floor", "0.9", "-o", "q.onnx", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == KEYS
    assert result["holds"] is True
    assert result["after"]["size_bytes"] < result["before"]["size_bytes"]
    assert result["after"]["size_bytes"] == (tmp_path / "q.onnx").stat().st_size
    calibrated = result["calibration"]["samples"]
    assert calibrated == (120 if scheme == "static" else 0)
    assert set(result["quality"]) >= {"value", "low", "n", "metric"}
    assert result["quality"]["n"] == 600 - calibrated
    assert 0.9 <= result["quality"]["low"] <= result["quality"]["value"]
    assert (result["executed"]["int8_macs_share"] > 0.5) == (scheme == "static")
    assert result["random_samples"] is False


@pytest.mark.usefixtures("in_process")
def test_below_the_floor_is_an_answer(project: Project, project_onnx: Path, shell: Shell) -> None:
    words = ["quantize", project_onnx, "--scheme", "weight-only", "--bits", "2",
             "--samples", project.images, "--preprocess", PREPROCESS]  # fmt: skip
    code, out, err = shell(*words, "--floor", "0.99")
    assert code == 3
    assert "warning: the quality is below the floor 0.99" in err.splitlines()
    assert all(len(line) <= 80 for line in out.splitlines())
    code, out, _ = shell(*words, "--json")
    assert code == 0
    assert json.loads(out)["holds"] is None
    assert any("with --floor 0.99 the layers" in warning for warning in json.loads(out)["warnings"])


@pytest.mark.usefixtures("in_process")
def test_random_samples_are_said_to_be(project_onnx: Path, shell: Shell) -> None:
    code, _, err = shell("quantize", project_onnx, "--scheme", "static", "--samples", "random:24")
    assert code == 0
    assert "quality was measured on random inputs" in err


@pytest.mark.usefixtures("in_process")
def test_a_model_of_one_batch_size(project: Project, tmp_path: Path) -> None:
    path = api.convert(
        project.ref, preprocess=PREPROCESS, shapes={"input": (2, 3, SIDE, SIDE)}
    ).model.save(tmp_path / "two.onnx")
    samples = np.random.default_rng(0).standard_normal((21, 3, SIDE, SIDE)).astype(np.float32)
    result = api.quantize(path, scheme="static", samples=samples)
    assert result.quality.n == 11
    assert [row.batch for row in result.measured.rows] == [2, 2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--scheme", "magic"], "--scheme magic; expected one of dynamic, static"),
        (["--scheme", "static", "--calibrator", "guess"], "unknown calibrator 'guess'"),
        (["--scheme", "weight-only", "--bits", "9"], "9"),
        (["--scheme", "static", "--engine", "abacus"], "unknown engine 'abacus'"),
        (["--scheme", "static", "--floor", "nan"], "--floor nan; expected"),
        (["--scheme", "static", "--threads", "0"], "--threads 0; expected"),
        (["--scheme", "static", "--seed", "-1"], "--seed -1; expected"),
        (["--scheme", "static", "--limit", "1"], "1 of 1 samples cannot calibrate"),
        (["--scheme", "static", "-o", "none/q.onnx"], "none/q.onnx does not exist"),
    ],
)
def test_refusals(
    words: list[str], expected: str, project_onnx: Path, shell: Shell, tmp_path: Path
) -> None:
    code, out, err = shell("quantize", project_onnx, "--samples", "random:24", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from onnxpress import cli
from onnxpress.verbs import comparison
comparison.score = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cli.main(sys.argv[1:])
"""


def test_a_kill_while_it_scores_leaves_the_old_output(project_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "q.onnx").write_bytes(b"the old one")
    words = ["quantize", project_onnx, "--scheme", "dynamic", "--samples", "random:24",
             "-o", "q.onnx", "-q"]  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=tmp_path, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").read_bytes() == b"the old one"


WRITTEN = """
import contextlib
from types import SimpleNamespace
from onnxpress import api, cli, load
made = SimpleNamespace(model=load({model!r}), holds=True, ruined=False, to_dict=dict)
api.quantize = lambda *_, **__: made
output = folder / "q.onnx"
words = ["quantize", {model!r}, "--scheme", "static", "--samples", "x", "-o", str(output), "-q"]
def seen():
    visible = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if output.read_bytes() != b"the old one":
        assert len(list(load(output).nodes())) == len(list(made.model.nodes()))
        return (visible, "new")
    return (visible, "old")
output.write_bytes(b"the old one")
"""


def test_a_kill_while_it_writes_leaves_one_whole_output(project_onnx: Path, tmp_path: Path) -> None:
    """At every step on disk. What is half written is in a hidden folder."""
    told = survey(
        tmp_path,
        WRITTEN.format(model=str(project_onnx)),
        "with contextlib.suppress(SystemExit): cli.main(words)",
        "seen()",
        "output.write_bytes(b'the old one')",
    )
    old, new = str((["q.onnx"], "old")), str((["q.onnx"], "new"))
    switched = told.index(new)
    assert switched > 2
    assert told == [old] * switched + [new] * (len(told) - switched)
