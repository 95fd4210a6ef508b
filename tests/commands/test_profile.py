"""``onnxpress profile``: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Shell
from zoo.bundles import write_bundle, write_model

pytestmark = pytest.mark.usefixtures("in_process", "small_peak")
QUICK = ("--rounds", 3, "--threads", 1)


@pytest.fixture
def cnn(zoo_model: Callable[[str], Path]) -> Path:
    return zoo_model("cnn")


def test_json_has_what_is_promised(shell: Shell, cnn: Path) -> None:
    code, out, err = shell("profile", cnn, *QUICK, "--batch", 2, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert (data["schema_version"], data["command"], data["engine"]) == (
        1,
        "profile",
        "onnxruntime",
    )
    assert (data["threads"], data["batch"], data["runs"]) == (1, 2, 3)
    assert {
        "total_ms", "peak_gflops", "untold_ms", "environment", "by_op", "by_module", "warnings",
        "verdict", "method",
    } <= set(data)  # fmt: skip
    wanted = {"name", "op", "provider", "ms", "share", "macs", "gflops", "module"}
    assert all(wanted <= set(node) for node in data["nodes"])
    times = [node["ms"] for node in data["nodes"]]
    assert times == sorted(times, reverse=True)
    assert sum(node["macs"] for node in data["nodes"]) == 3457344


def test_a_person_sees_three_tables_of_80_columns_and_a_verdict(shell: Shell, cnn: Path) -> None:
    code, out, _ = shell("profile", cnn, *QUICK)
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for kind in ("kernel", "operator", "module"):
        (header,) = (line for line in lines if line.split()[:1] == [kind])
        assert header.split()[-5:] == ["ms", "share", "GFLOP/s", "of", "peak"]
    assert "blocks." in out
    assert "of the peak (" in " ".join(out.split())
    assert "6 convolutions and 1 matrix product that reach" in " ".join(out.split())


def test_verbose_tells_all_and_quiet_nothing(
    shell: Shell, zoo_model: Callable[[str], Path]
) -> None:
    path = zoo_model("transformer")
    assert "(-v: all)" in shell("profile", path, *QUICK)[1]
    assert "(-v: all)" not in shell("profile", path, *QUICK, "-v")[1]
    assert shell("profile", path, *QUICK, "-q")[:2] == (0, "")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_files_that_it_writes(shell: Shell, cnn: Path, tmp_path: Path, engine: str) -> None:
    code, out, _ = shell(
        "profile", cnn, *QUICK, "--engine", engine, "--trace", "t.json", "--report", "r.html",
        "-o", "p.json", "-q",
    )  # fmt: skip
    assert (code, out) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "r.html", "t.json"]
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["engine"] == engine
    trace = json.loads((tmp_path / "t.json").read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {event["name"] for event in events} == {node["name"] for node in data["nodes"]}
    assert all(event["ts"] >= 0 and event["dur"] >= 0 and event["pid"] == 1 for event in events)
    assert {event["tid"] for event in events} == {0}
    starts = [event["ts"] for event in events]
    assert starts == sorted(starts)
    page = (tmp_path / "r.html").read_text()
    assert data["nodes"][0]["name"] in page


def test_a_bundle(shell: Shell, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    code, out, _ = shell("profile", "b", "--rounds", 3)
    assert code == 0
    assert "on onnxruntime, 1 thread: x 1×3" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["m.onnx", "--rounds", "0"], "--rounds 0; expected a number of at least 1"),
        (["m.onnx", "--batch", "0"], "--batch 0"),
        (["m.onnx", "--seed", "-1"], "--seed -1"),
        (["m.onnx", "--engine", "tensorrt"], "tensorrt"),
        (["m.onnx", "--engine", "null"], "engine null does not tell where its time goes"),
        (["m.onnx", "--trace", "none/t.json"], "the folder of --trace none/t.json does not exist"),
        (["m.onnx", "--report", "."], "--report . is a folder"),
        (["m.onnx", "-o", "none/p.json"], "--output none/p.json"),
        (["none.onnx"], "none.onnx does not exist"),
        (["."], ". is a folder; expected an ONNX file or a bundle"),
        (["m.onnx", "--samples", "none.npz"], "none.npz"),
        (["broken.onnx"], "broken.onnx"),
        (["odd.onnx"], "odd.onnx"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    words: list[str], told: str, shell: Shell, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"this is no model")
    text = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "odd.onnx").write_bytes(text.replace(b"Relu", b"Rulu"))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = shell("profile", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert told in err
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
