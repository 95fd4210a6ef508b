"""The main job, as a user does it: a factory file, a folder of images, a bundle."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import onnxpress
from conftest import Shell
from onnxpress import api, bundle
from onnxpress.errors import InputError
from onnxpress.pressing.result import Pressed
from onnxpress.pressing.workspace import workspace
from onnxpress.settings import Settings
from onnxpress.signature import TensorSpec
from onnxpress.verbs.measured import Ratio
from onnxpress.verbs.trials import Job
from onnxpress.verbs.tuned import Tuned
from zoo.project import PREPROCESS, ROUNDS, Project, command, press_words, tensor


@dataclass(frozen=True)
class Done:
    """A finished press of the command line."""

    bundle: Path
    result: dict[str, object]
    table: str


@pytest.fixture(scope="session")
def done(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Done:
    bundle = tmp_path_factory.mktemp("done") / "bundle"
    words = press_words(project, bundle)
    first = command(*words, "--json")
    assert first.returncode == 0, first.stderr
    second = command(*words)
    assert second.returncode == 0, second.stderr
    return Done(bundle, json.loads(first.stdout), second.stdout)


def candidates(done: Done) -> list[dict[str, object]]:
    found = done.result["candidates"]
    assert isinstance(found, list)
    return found


class TestResult:
    def test_json_has_the_keys_of_the_contract(self, done: Done) -> None:
        assert {"schema_version", "chosen", "reason", "floor", "objective", "baseline",
                "candidates", "bundle"} <= set(done.result)  # fmt: skip
        told = rf"{done.result['chosen']} is the fastest( in float32)? of those that beat"
        assert re.search(told, str(done.result["reason"]))
        for row in candidates(done):
            assert {"name", "file", "engine", "settings", "requested", "executed", "latency_ms",
                    "throughput_per_s", "size_bytes", "quality", "speedup", "tie", "ok",
                    "reason"} <= set(row)  # fmt: skip
            assert (done.bundle / str(row["file"])).resolve().is_file()

    def test_every_form_was_measured_and_the_chosen_one_is_the_fastest(self, done: Done) -> None:
        ok = {row["name"]: row["speedup"]["value"] for row in candidates(done) if row["ok"]}  # type: ignore[index]
        assert {"onnxruntime-float32", "onnxruntime-int8-static", "openvino-float32"} <= {
            row["name"] for row in candidates(done)
        }
        quickest = max(ok, key=lambda name: ok[name])
        told = str(done.result["reason"])
        assert done.result["chosen"] == quickest or f"do not tell it from {quickest}" in told

    def test_calibration_and_scoring_share_no_sample(self, done: Done) -> None:
        samples = done.result["samples"]
        assert isinstance(samples, dict)
        assert samples["calibration"] + samples["scoring"] == 600
        assert all(row["quality"]["n"] == samples["scoring"] for row in candidates(done))  # type: ignore[index]

    def test_int8_ran_as_int8(self, done: Done) -> None:
        executed = {row["name"]: row["executed"] for row in candidates(done)}
        assert executed["onnxruntime-int8-static"] == "int8"
        assert executed["onnxruntime-float32"] == "float32"

    def test_int8_tells_what_it_did_to_layers_and_tensors(self, done: Done) -> None:
        told = done.result["quantization"]
        assert isinstance(told, dict)
        calibrated = [row["name"] for row in candidates(done) if "static" in str(row["name"])]
        assert told["form"] in calibrated
        assert (told["form"] == done.result["chosen"]) == (done.result["chosen"] in calibrated)
        errors = [layer["error"] for layer in told["layers"]]
        assert len(errors) == 3, "two convolutions and a product"
        assert 0.5 > errors[0] >= errors[1] >= errors[2] > 0
        html = (done.bundle / "report.html").read_text()
        assert all(layer["node"] in html for layer in told["layers"])
        assert told["tensors"]
        for each in told["tensors"]:
            assert each["seen_low"] < each["seen_high"]
            assert each["low"] < each["high"]
            assert 0 < each["error"] < 0.5
            assert len(each["counts"]) > 1
            assert sum(each["counts"]) > done.result["samples"]["calibration"]  # type: ignore[index]
            assert each["tensor"] in html

    def test_table_report_and_json_agree(self, done: Done) -> None:
        assert all(len(line) <= 80 for line in done.table.splitlines())
        report = json.loads((done.bundle / "report.json").read_text())
        html = (done.bundle / "report.html").read_text()
        markdown = (done.bundle / "report.md").read_text()
        for row, kept in zip(candidates(done), report["candidates"], strict=True):
            assert {k: row[k] for k in ("name", "latency_ms", "quality", "speedup")} == {
                k: kept[k] for k in ("name", "latency_ms", "quality", "speedup")
            }
            line = next(li for li in done.table.splitlines() if str(row["name"]) in li.split())
            quality = row["quality"]
            assert f"{quality['value']:.4f}" in line  # type: ignore[index]
            assert f"{row['speedup']['value']:.2f}×" in line  # type: ignore[index]
            assert str(row["name"]) in html
            assert str(row["name"]) in markdown
        assert str(done.result["verdict"]) in " ".join(done.table.split())
        assert report["verdict"] == done.result["verdict"]

    def test_no_path_of_this_machine_is_in_the_bundle(self, project: Project, done: Done) -> None:
        for path in done.bundle.glob("*.onnx"):
            assert str(project.folder).encode() not in path.read_bytes()
        manifest = json.loads((done.bundle / "bundle.json").read_text())
        assert str(project.folder) not in json.dumps(manifest["provenance"])


class TestBundle:
    def test_gives_the_classes_of_the_original(self, project: Project, done: Done) -> None:
        paths = list(project.labels)[::7]
        pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
        with torch.inference_mode():
            expected = project.module(tensor(pixels)).argmax(1).tolist()
        with onnxpress.open(done.bundle) as predictor:
            answers = [answer["index"] for answer in predictor.predict(paths)]  # type: ignore[index]
        assert np.mean(np.equal(answers, expected)) >= 0.97

    def test_run_prints_the_class(self, project: Project, done: Done) -> None:
        path = next(iter(project.labels))
        told = command("run", done.bundle, path, "--json")
        assert told.returncode == 0, told.stderr
        output = json.loads(told.stdout)["outputs"][0]
        with torch.inference_mode():
            pixels = tensor(np.asarray(Image.open(path))[None])
            assert output["index"] == int(project.module(pixels).argmax())
        assert output["class"] == str(output["index"])

    def test_input_file_and_output(self, project: Project, done: Done, tmp_path: Path) -> None:
        told = command(
            "run", done.bundle, "--input-file", project.images, "-o", tmp_path / "o.jsonl"
        )
        assert told.returncode == 0, told.stderr
        lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert len(lines) == 600
        right = [line["output"]["class"] == line["name"].split("/")[0] for line in lines]
        measured = next(row for row in candidates(done) if row["name"] == done.result["chosen"])
        assert np.mean(right) == pytest.approx(measured["quality"]["candidate"], abs=0.03)  # type: ignore[index]


@pytest.mark.usefixtures("quick")
class TestAgain:
    def test_another_floor_measures_nothing_again(
        self, project: Project, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError("measured again")

        monkeypatch.setattr("onnxpress.pressing.trial.measure", never)
        before = done.result["candidates"]
        again = api.press(
            project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS, floor=0.5,
            output=done.bundle,
        )  # fmt: skip
        assert isinstance(again, Pressed)
        assert again.floor.value == 0.5
        kept = json.loads(json.dumps(again.to_dict()))["candidates"]
        assert [row["latency_ms"] for row in kept] == [row["latency_ms"] for row in before]  # type: ignore[index, union-attr]

    @pytest.mark.usefixtures("in_process")
    def test_fresh_measures_again(
        self, project: Project, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("onnxpress.pressing.trial.measure", stop)
        with pytest.raises(KeyboardInterrupt):
            api.press(
                project.ref, samples=project.images, preprocess=PREPROCESS, rounds=ROUNDS,
                output=done.bundle, fresh=True,
            )  # fmt: skip

    @pytest.mark.usefixtures("in_process")
    def test_code_that_the_file_imports_is_noticed(self, tmp_path: Path) -> None:
        """No fingerprint sees it, so what was kept is compared with the original again."""

        class Scaled(torch.nn.Module):
            factor = 1.0

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.tanh(x * self.factor)

        module, samples = Scaled(), np.random.default_rng(0).standard_normal((40, 6))
        answers = []
        for factor in (1.0, 3.0, 3.0):
            module.factor = factor
            result = api.press(
                module, samples=samples.astype(np.float32), rounds=ROUNDS, keep_float=True,
                inputs=[TensorSpec("x", "float32", ("batch", 6))], output=tmp_path / "b",
                engine="onnxruntime",
            )  # fmt: skip
            assert isinstance(result, Pressed)
            assert all(trial.ok for trial in result.candidates if trial.row)
            with onnxpress.open(tmp_path / "b") as predictor:
                (answer,) = predictor.predict([{"x": np.full(6, 0.5, np.float32)}])
            answers.append(next(iter(answer.values()))[0])  # type: ignore[attr-defined]
        assert answers == pytest.approx(np.tanh([0.5, 1.5, 1.5]), rel=1e-5)
        assert len(list((tmp_path / ".b.press").glob("float-*.onnx"))) == 2

    @pytest.mark.usefixtures("in_process")
    def test_another_size_is_another_model(self, tmp_path: Path) -> None:
        module = torch.nn.Conv2d(3, 2, 3).eval()
        for side in (8, 12):
            samples = np.random.default_rng(0).standard_normal((30, 3, side, side))
            result = api.press(
                module, samples=samples.astype(np.float32), rounds=ROUNDS, task="tensor",
                inputs=[TensorSpec("x", "float32", ("batch", 3, side, side))], floor=0.5,
                output=tmp_path / "b", engine="onnxruntime", keep_float=True,
            )  # fmt: skip
            assert isinstance(result, Pressed)

    @pytest.mark.usefixtures("in_process")
    def test_session_options_go_into_the_bundle(self, tmp_path: Path) -> None:
        module = torch.nn.Linear(4, 3).eval()
        samples = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
        words = {
            "samples": samples, "rounds": ROUNDS, "keep_float": True, "output": tmp_path / "b",
            "inputs": [TensorSpec("x", "float32", ("batch", 4))],
        }  # fmt: skip
        api.press(module, session=("enable_mem_pattern=off",), **words)  # type: ignore[arg-type]
        forms = {form.name: form for form in bundle.read(tmp_path / "b").forms}
        assert forms["onnxruntime-float32"].settings.options == {"enable_mem_pattern": "off"}
        assert "enable_mem_pattern" not in forms["openvino-float32"].settings.options
        with pytest.raises(InputError, match="a bundle may not hold the option CACHE_DIR"):
            api.press(
                module,
                engine="openvino",
                session={"CACHE_DIR": "x"},
                **words,  # type: ignore[arg-type]
            )

    @pytest.mark.usefixtures("in_process")
    def test_tuned_settings_are_measured_and_bundled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What tune finds is what the rows, the report's JSON and the bundle have."""
        calls, tuned, finds = [], [], {"threads": "1"}

        def tune(job: Job, starts: list[Settings], **_: object) -> Tuned:
            calls.append(job.path)
            best = starts[0].changed(finds)
            one = Ratio(1.2, 1.1, 1.3)
            return Tuned(best, starts[0], one, (), (), job.objective, job.batch, None, 1.0, 1.0, {})

        class Slow(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                time.sleep(0.01)
                return torch.relu(x) * 2 - 1

        monkeypatch.setattr("onnxpress.pressing.tuning.tune", tune)
        samples = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)

        def pressed(output: Path) -> Pressed:
            result = api.press(
                Slow().eval(), samples=samples, rounds=ROUNDS, output=output, tune=True,
                inputs=[TensorSpec("x", "float32", ("batch", 4))],
            )  # fmt: skip
            assert isinstance(result, Pressed)
            return result

        for _ in range(2):
            result = pressed(tmp_path / "b")
            assert not any("--tune" in warning for warning in result.warnings)
            forms = {form.name: form for form in bundle.read(tmp_path / "b").forms}
            assert forms[str(result.chosen)].settings.threads == 1
            tuned.append(len(calls))
        assert 1 <= tuned[0] == tuned[1], "the second press finds it done"
        finds.clear()
        (told,) = (each for each in pressed(tmp_path / "c").warnings if "--tune" in each)
        assert told.startswith("--tune: nothing beats the settings of ")

    def test_two_at_a_time_are_refused(self, project: Project, tmp_path: Path) -> None:
        with (
            workspace(tmp_path / "b"),
            pytest.raises(InputError, match=r"another press is writing .*b; expected one at a"),
        ):
            api.press(
                project.ref, samples=project.images, preprocess=PREPROCESS, output=tmp_path / "b"
            )

    def test_measured_work_outlives_a_floor_that_cannot_be_proven(self, tmp_path: Path) -> None:
        def refuse(*, measured: bool) -> None:
            with workspace(tmp_path / "b") as work:
                if measured:
                    work.write("measured", "0", {})
                raise InputError("--floor")

        for measured in (False, True):
            with pytest.raises(InputError, match="--floor"):
                refuse(measured=measured)
            assert (tmp_path / ".b.press").exists() is measured

    def test_a_dry_run_writes_nothing(self, project: Project, shell: Shell, tmp_path: Path) -> None:
        code, out, err = shell(*press_words(project, tmp_path / "b"), "--dry-run")
        assert code == 0, err
        assert "onnxruntime-int8-static" in out
        assert list(tmp_path.iterdir()) == []


class TestBadInput:
    """One line on stderr, exit code 2, nothing on stdout and nothing written."""

    @pytest.fixture
    def words(self, project: Project, tmp_path: Path) -> dict[str, object]:
        return {
            "source": project.ref,
            "--samples": project.images,
            "--preprocess": PREPROCESS,
            "-o": tmp_path / "out" / "bundle",
        }

    @pytest.fixture(autouse=True)
    def _shell(self, shell: Shell) -> None:
        self.shell = shell

    def refused(self, words: dict[str, object], expected: str) -> None:
        output = Path(str(words["-o"]))
        if words["-o"] and not output.parent.exists() and output.parent.name == "out":
            output.parent.mkdir(parents=True)
        before = sorted(output.parent.rglob("*")) if output.parent.exists() else []
        line = ["press", words["source"]]
        for key, value in words.items():
            if key != "source" and value is not None:
                line += [key, value]
        code, out, err = self.shell(*line)
        assert (code, out) == (2, ""), err
        assert len(err.strip().splitlines()) == 1, err
        assert re.match("error: .*" + expected, err), err
        after = sorted(output.parent.rglob("*")) if output.parent.exists() else []
        assert before == after

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("source", "torch:nowhere.py:make", "nowhere.py does not exist"),
            ("source", "torch:{folder}/net.py:raises", "the weights are gone"),
            (
                "source",
                "torch:{folder}/net.py:nothing",
                "returned None; expected a torch.nn.Module",
            ),
            ("source", "torch:{folder}/net.py:absent", "no factory 'absent'"),
            ("source", "{folder}/nowhere.onnx", "does not exist"),
            ("source", "{folder}/net.pt", "holds pickled Python, which can run any code"),
            ("--samples", "{folder}/nowhere", "does not exist"),
            ("--samples", "{folder}/empty", "holds no images"),
            ("--preprocess", None, "--preprocess"),
            ("--preprocess", "size=24,mean=a", "mean=a; expected numbers"),
            ("--task", "levitation", "unknown task 'levitation'; expected one of"),
            ("--floor", "much", "'--floor'"),
            ("--floor", "nan", "--floor nan"),
            ("--floor", "0.9999", "cannot be proven with .* expected at least"),
            ("--batch", "0", "--batch 0"),
            ("--threads", "-1", "--threads -1"),
            ("-o", "{folder}/images", "exists and is not a bundle"),
            ("-o", "{folder}/nowhere/bundle", "does not exist"),
        ],
    )
    def test_one_line(
        self,
        project: Project,
        words: dict[str, object],
        key: str,
        value: str | None,
        expected: str,
    ) -> None:
        (project.folder / "empty").mkdir(exist_ok=True)
        filled = None if value is None else value.format(folder=project.folder)
        self.refused({**words, key: filled}, expected)

    def test_samples_that_do_not_fit(
        self, project: Project, words: dict[str, object], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "bad.npz", input=np.zeros((40, 3, 24, 23), np.float32))
        self.refused(
            {**words, "--samples": tmp_path / "bad.npz", "--task": "tensor"},
            r".*float32\[3, 24, 23\].*expected",
        )

    @pytest.mark.parametrize("cut", [0, 10, 1000])
    def test_a_broken_onnx_file(
        self, project: Project, words: dict[str, object], tmp_path: Path, cut: int
    ) -> None:
        path = tmp_path / "cut.onnx"
        api.convert(project.ref, preprocess=PREPROCESS).model.save(tmp_path / "whole.onnx")
        path.write_bytes((tmp_path / "whole.onnx").read_bytes()[:cut])
        self.refused({**words, "source": path}, "cut.onnx")
