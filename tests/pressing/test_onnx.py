"""Pressing an ONNX file: what may be scored, kept, reused and written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from conftest import Shell
from onnxpress import api
from onnxpress.errors import InputError
from onnxpress.pressing import trial
from onnxpress.pressing.result import Pressed
from onnxpress.samples import Record, Samples
from zoo.project import PREPROCESS, SIDE, Project

pytestmark = pytest.mark.usefixtures("one_engine")
KEYS = {
    "schema_version", "command", "source", "task", "verdict", "chosen", "reason", "floor",
    "floor_note", "objective", "batch", "threads", "rounds", "baseline", "candidates",
    "conversion", "journal", "quantization", "samples", "environment", "warnings", "bundle",
    "report",
}  # fmt: skip


def press(source: object, output: Path | None = None, **wishes: object) -> Pressed:
    wishes = {"samples": "random:24", "floor": 0.0, "rounds": 5, **wishes}
    result = api.press(source, output=output, **wishes)  # type: ignore[arg-type]
    assert isinstance(result, Pressed)
    return result


def listing(folder: Path) -> dict[str, int]:
    """Every file, hidden ones too, with its time."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_json_keys_and_a_second_press(
    project: Project, project_onnx: Path, shell: Shell, tmp_path: Path
) -> None:
    words = ["press", project_onnx, "--samples", project.images, "--preprocess", PREPROCESS,
             "--rounds", "5", "-o", "b", "--json"]  # fmt: skip
    code, out, err = shell(*words)
    first = json.loads(out)
    assert (code, err) == (0 if first["chosen"] else 3, "")
    assert set(first) == KEYS
    assert first["baseline"]["name"] == "onnxruntime on the original file"
    assert (first["bundle"], first["report"]) == ("b", "b/report.html")
    work = listing(tmp_path / ".b.press")
    code, out, err = shell(*words, "--floor", "0.5")
    second = json.loads(out)
    assert second["floor"] == 0.5
    assert second["candidates"][0]["latency_ms"] == first["candidates"][0]["latency_ms"]
    assert listing(tmp_path / ".b.press") == work, "nothing is built or measured again"
    with onnxpress.open("b") as predictor:
        assert predictor.form.name == (second["chosen"] or "onnxruntime-float32")
    code, out, err = shell(*words, "--limit", "300")
    third = json.loads(out)
    assert third["candidates"][0]["latency_ms"] != first["candidates"][0]["latency_ms"]


@pytest.mark.usefixtures("in_process")
def test_calibration_samples_are_never_scored(
    project: Project, project_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[str] = []
    scored: list[str] = []

    def spied(samples: Samples, names: list[str]) -> Samples:
        def stream() -> Iterator[Record]:
            for record in samples:
                names.append(record.name)
                yield record

        return Samples(stream, samples.kind, samples.description, labels=samples.labels())

    feeds, score = trial.sample_feeds, trial.score
    monkeypatch.setattr(
        trial, "sample_feeds", lambda bound, s, *rest: feeds(bound, spied(s, calibrated), *rest)
    )
    monkeypatch.setattr(
        trial,
        "score",
        lambda runners, name, bound, s, *rest: score(runners, name, bound, spied(s, scored), *rest),
    )
    press(project_onnx, samples=project.images, preprocess=PREPROCESS)
    everything = {f"{path.parent.name}/{path.name}" for path in project.labels}
    assert len(set(calibrated)) == 120
    assert len(scored) == len(set(scored)) == 480
    assert set(calibrated) | set(scored) == everything


@pytest.mark.usefixtures("in_process")
def test_nothing_is_faster_and_the_old_bundle_stays(
    project: Project, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "b"
    words = ["press", project.ref, "--samples", "random:24", "--preprocess", PREPROCESS,
             "--task", "tensor", "--floor", "0.5", "--rounds", "5", "-o", output]  # fmt: skip
    assert shell(*words)[0] == 0
    before = listing(output)
    monkeypatch.setattr("onnxpress.pressing.press.fastest", lambda trials: None)
    code, out, err = shell(*words, "--json")
    result = json.loads(out)
    assert code == 3
    assert (result["chosen"], result["bundle"]) == (None, None)
    assert "none of them is faster beyond the noise" in result["reason"]
    assert result["report"] == str(tmp_path / "b-report.html")
    assert {path.name for path in tmp_path.glob("b-report.*")} == {
        "b-report.html", "b-report.md", "b-report.json",
    }  # fmt: skip
    assert listing(output) == before
    code, out, err = shell(*words)
    assert code == 3
    assert "Nothing beats PyTorch eager" in out
    assert "random inputs" in err
    assert all(len(line) <= 80 for line in out.splitlines())
    code, out, err = shell(*words, "--keep-float", "--json")
    assert (code, json.loads(out)["bundle"]) == (3, str(output))
    assert json.loads((output / "bundle.json").read_text())["chosen"] is None


@pytest.mark.usefixtures("in_process")
def test_a_model_of_one_batch_size(project: Project, tmp_path: Path) -> None:
    model = api.convert(
        project.ref, preprocess=PREPROCESS, shapes={"input": (2, 3, SIDE, SIDE)}
    ).model
    path = model.save(tmp_path / "two.onnx")
    samples = np.random.default_rng(0).standard_normal((25, 3, SIDE, SIDE)).astype(np.float32)
    result = press(path, tmp_path / "b", samples=samples, objective="throughput")
    assert result.batch == 2
    assert {row["quality"]["n"] for row in result.to_dict()["candidates"]} == {13}  # type: ignore[attr-defined]
    with onnxpress.open(tmp_path / "b") as predictor:
        assert len(predictor.predict(list(samples[:5]))) == 5
    with pytest.raises(InputError, match="--batch 8; expected 2: the model takes no other"):
        press(path, samples=samples, batch=8)


@pytest.mark.usefixtures("in_process")
def test_forms_of_samples(project_onnx: Path, tmp_path: Path) -> None:
    """An ``.npz`` of tensors, and a function of feeds."""
    x = np.random.default_rng(0).standard_normal((20, 3, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "x.npz", input=x)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n"
        "def feeds():\n"
        "    for row in np.load(Path(__file__).with_name('x.npz'))['input']:\n"
        "        yield {'input': row}\n"
    )
    work = tmp_path / "b"
    one = press(project_onnx, work, samples=tmp_path / "x.npz")
    two = press(project_onnx, work, samples=f"{tmp_path}/mine.py:feeds")
    assert one.task == two.task == "tensor"
    for a, b in zip(one.candidates, two.candidates, strict=True):
        assert a.row is not None
        assert b.row is not None
        assert a.row.quality == b.row.quality
    again = press(project_onnx, work, samples=f"{tmp_path}/mine.py:feeds")
    assert times(again) == times(two)
    np.savez(tmp_path / "x.npz", input=x[::-1])
    changed = press(project_onnx, work, samples=f"{tmp_path}/mine.py:feeds")
    assert times(changed) != times(two), "the function reads other data now"


def times(result: Pressed) -> list[object]:
    return [each.row.latency_ms for each in result.candidates if each.row]


def test_few_rounds_are_refused(project_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--rounds 4; expected at least 5: fewer prove nothing"):
        press(project_onnx, tmp_path / "b", rounds=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_the_folder_that_one_stands_in(project_onnx: Path, shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = press(project_onnx, Path())
        assert result.bundle is not None
        with onnxpress.open("."):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".here.press", "here"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--samples", "{few}"], "there is 1 sample; expected at least 2"),
        (["--samples", "{images}"], "--preprocess mean=…,std=…"),
        (["--samples", "{images}", "--preprocess", "size=24,mean=0.5/0.5"], "mean has 2 values"),
        (["--samples", "{images}", "--preprocess", "size=32"], "size=24x24"),
        (["--samples", "{npz}"], "gives input 'input' float64[3, 24, 24]; expected float32[3, 24"),
        (["--samples", "{broken}", "--preprocess", PREPROCESS], "b.png cannot be read as an image"),
        (["--samples", "random:9", "--rounds", "-1"], "--rounds -1; expected"),
        (["--samples", "random:9", "--seed", "-1"], "--seed -1; expected"),
        (["--samples", "random:9", "--label", "y"], "--label y with random:9; expected a table"),
        (["--samples", "random:9", "--floor", "2"], "--floor 2"),
        (["--samples", "random:9", "--checkpoint", "x.pt"], "--checkpoint with an ONNX file"),
        (["--samples", "random:9", "-o", "/proc/nowhere"], "cannot write beside /proc/nowhere"),
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
    from PIL import Image

    (tmp_path / "broken").mkdir()
    for index in range(9):
        Image.new("RGB", (24, 24), (index, 0, 0)).save(tmp_path / "broken" / f"a{index}.png")
    whole = (tmp_path / "broken" / "a0.png").read_bytes()
    (tmp_path / "broken" / "b.png").write_bytes(whole[:-30])
    np.savez(tmp_path / "x.npz", input=np.zeros((9, 3, 24, 24)))
    np.savez(tmp_path / "one.npz", input=np.zeros((1, 3, 24, 24), np.float32))
    names = {
        "images": project.images,
        "npz": tmp_path / "x.npz",
        "few": tmp_path / "one.npz",
        "broken": tmp_path / "broken",
    }
    filled = [word.format(**names) for word in words]
    before = listing(tmp_path)
    code, out, err = shell("press", project_onnx, "--floor", "0", *filled)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert listing(tmp_path) == before
