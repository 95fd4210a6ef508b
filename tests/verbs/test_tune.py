"""Tuning finds what is faster, drops what answers otherwise, and keeps to cores and budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Shell
from onnxpress import api, registry
from onnxpress.engine import Engine, Knob, Session
from onnxpress.errors import EngineError, InputError
from onnxpress.machine import Machine, this_machine
from onnxpress.runner import Artifact, InProcess
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.verbs.measured import Ratio
from onnxpress.verbs.trials import Job
from onnxpress.verbs.tune import _far, tune
from onnxpress.verbs.tuned import Tuned

SIGNATURE = Signature((TensorSpec("x", "float32", None),), (TensorSpec("y", "float32", None),))
X = {"x": np.ones((2, 8), np.float32)}
KNOBS = (
    Knob("threads", ({"threads": "1"},)),
    Knob("wrong", ({"wrong": "1"},)),
    Knob("broken", ({"broken": "1"},)),
    Knob("first", ({"first": "1"},)),
    Knob("second", ({"second": "1"},)),
    Knob("nothing", ({"nothing": "1"},)),
)


class Asleep(Session):
    """Takes 8 ms, 16 on one thread; less with options that help; is wrong with one that harms."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        options = settings.options
        if "broken" in options:
            raise EngineError("it does not open")
        self.signature, self._wrong = SIGNATURE, "wrong" in options
        self._seconds = 0.008 * (2 if settings.threads == 1 else 1) * (0.1 if self._wrong else 1)
        for name, times in (("first", 0.6), ("second", 0.6), ("once", 0.3)):
            self._seconds *= times if name in options else 1

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        time.sleep(self._seconds)
        return {"y": feeds["x"] * (1.2 if self._wrong else 1)}


def asleep(patch: pytest.MonkeyPatch, tunes: Sequence[Knob] = KNOBS) -> None:
    """Let every trial be a session that sleeps; with the option ``once`` it opens once."""
    seen: set[str] = set()

    def opened(target: Artifact) -> InProcess:
        value = target.settings.options.get("once", "")
        if value in seen:
            raise EngineError("it opens but once")
        seen.update(value)
        return InProcess(Asleep(target.settings))

    def knobs(*_: object) -> Sequence[Knob]:
        return tunes

    patch.setattr("onnxpress.verbs.trials.open_runner", opened)
    patch.setattr("onnxpress.verbs.measure.WARM_LIMIT_S", 0.05)
    patch.setattr("onnxpress.engines.onnxruntime.OnnxRuntime.knobs", knobs)


def job() -> Job:
    nothing: object = None  # neither samples nor their meaning are looked at: no other precision
    return Job(Path("m.onnx"), 0, nothing, nothing, X, 2)  # type: ignore[arg-type]


@pytest.fixture(scope="class")
def found() -> Iterator[Tuned]:
    with pytest.MonkeyPatch.context() as patch:
        asleep(patch)
        yield tune(job(), [Settings("onnxruntime", threads=2)])


class TestSearch:
    def test_what_helps_is_combined(self, found: Tuned) -> None:
        assert found.best.options == {"first": "1", "second": "1"}
        assert found.best.threads == 2
        assert found.improved
        assert 1.8 < found.speedup.low <= found.speedup.value < 3.2  # it is 2.78, less the overhead
        trials = {trial.name: trial for trial in found.trials}
        both = next(one for one in found.trials if one.settings == found.best)
        assert both.rungs >= 2
        assert trials["onnxruntime, threads=1"].rungs == 1, "bad ones end early"

    def test_what_mattered_is_told_the_greatest_first(self, found: Tuned) -> None:
        effects = {effect.knob: effect for effect in found.mattered}
        assert set(effects) == {"threads", "first", "second", "nothing"}, "what fails is out"
        assert next(iter(effects)) == "threads"
        assert "threads=1 takes " in effects["threads"].text
        assert "first=1 is " in effects["first"].text

    def test_wrong_answers_are_never_timed(self, found: Tuned) -> None:
        """It would be the fastest by far."""
        trials = {trial.name: trial for trial in found.trials}
        wrong, broken = trials["onnxruntime, wrong=1"], trials["onnxruntime, broken=1"]
        assert (wrong.latency_ms, wrong.rungs) == (None, 0)
        assert wrong.reason == "its answers differ by 0.2 of their size"
        assert (broken.latency_ms, broken.reason) == (None, "it does not open")

    def test_what_fails_later_is_out_however_fast_it_was(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three of them, more than the last measurement has: then the next best is taken."""
        once = Knob("once", tuple({"once": value} for value in "abc"))
        asleep(monkeypatch, (once, Knob("first", ({"first": "1"},))))
        found = tune(job(), [Settings("onnxruntime", threads=2)])
        tried = {trial.name: trial for trial in found.trials}
        fast = [tried[f"onnxruntime, once={value}"] for value in "abc"]
        assert all(one.speedup is None and one.reason == "it opens but once" for one in fast)
        assert found.best.options == {"first": "1"}

    def test_a_short_budget_is_kept_and_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asleep(monkeypatch)
        found = tune(job(), [Settings("onnxruntime", threads=2)], budget_s=0.1)
        assert not found.improved
        assert found.best == Settings("onnxruntime", threads=2)
        assert any("give a longer --budget" in warning for warning in found.warnings)
        assert {trial.reason for trial in found.trials[1:]} == {"the budget was spent"}


def test_an_engine_is_left_out_only_where_it_is_surely_slow() -> None:
    """The first rung is short: on a busy machine its ratios alone say little."""
    base = Ratio(1.0, 1.0, 1.0)
    assert not _far(base, base)
    assert not _far(base, Ratio(1.6, 0.9, 2.9))
    assert _far(base, Ratio(1.6, 1.5, 1.7))
    assert _far(Ratio(0.6, 0.5, 0.65), base)
    assert not _far(Ratio(0.6, 0.5, 0.75), base)
    assert _far(None, base), "it did not run"


def test_the_ratio_of_two_ratios_is_as_uncertain_as_both() -> None:
    found = Ratio(1.0, 0.8, 1.2).over(Ratio(2.0, 1.6, 2.5))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.32, 0.75))
    assert Ratio(1.1, 1.05, 1.2).over(Ratio(1.0, 1.0, 1.0)) == Ratio(1.1, 1.05, 1.2)


def test_several_requests_are_timed_by_what_one_costs() -> None:
    alone = InProcess(Asleep(Settings("x"))).time(X, 0.1)
    four = InProcess(Asleep(Settings("x"))).time(X, 0.1, requests=4)
    assert np.median(four) < 0.6 * np.median(alone)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_knobs_never_take_more_cores_than_there_are(name: str, objective: str) -> None:
    engine = registry.create(Engine, "engines", name)
    for cores in (1, 2, 6, 8):
        machine = replace(
            this_machine(), cores=cores, logical_cores=cores, affinity=cores, quota=None
        )
        start = Settings(name, threads=machine.threads)
        for knob in engine.knobs(machine, objective):
            for changes in knob.values:
                settings = start.changed(changes)
                inter = int(settings.options.get("inter_op_num_threads", 1))
                runs = settings.requests if name == "onnxruntime" else 1  # streams share threads
                assert (settings.threads or 0) * inter * runs <= cores
                engine.check(settings)


def test_one_core_leaves_no_threads_to_try() -> None:
    machine = replace(this_machine(), cores=8, logical_cores=8, affinity=8, quota=1.0)
    assert machine.thread_counts == (1,)
    assert replace(machine, quota=2.5).thread_counts == (2, 1)
    assert replace(machine, quota=None).limited(4).thread_counts == (4, 2, 1)
    smt = Machine("cpu", "x86_64", "Linux", 4, 8, 8, None, 0, ())
    assert smt.thread_counts == (4, 2, 1, 8)


class TestCommand:
    def test_settings_are_written_and_read(
        self, project_onnx: Path, shell: Shell, tmp_path: Path
    ) -> None:
        code, out, _ = shell(
            "tune",
            project_onnx,
            "--samples",
            "random:8",
            "--budget",
            "12",
            "-o",
            "s.json",
            "--json",
        )
        assert code == 0
        result = json.loads(out)
        assert {"best", "trials", "speedup", "mattered", "baseline"} <= set(result)
        assert result["best"] == json.loads((tmp_path / "s.json").read_text())["best"]
        assert result["speedup"]["value"] >= 1, "never slower"
        assert result["spent_s"] < 20
        assert any(trial["latency_ms"] for trial in result["trials"])
        code, out, err = shell(
            "bench", project_onnx, "--against", project_onnx, "--samples", "random:8", "--rounds",
            "5", "--settings", "s.json", "--json",
        )  # fmt: skip
        assert (code, err) == (0, "")
        before, after = json.loads(out)["rows"]
        assert before["name"].endswith(", without s.json")
        assert before["settings"]["options"] == {}
        assert after["engine"] == result["best"]["engine"]
        assert after["settings"]["options"] == result["best"]["options"]

    def test_the_table_fits_a_terminal(self, project_onnx: Path, shell: Shell) -> None:
        code, out, _ = shell("tune", project_onnx, "--samples", "random:4", "--budget", "9")
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80
        assert "onnxruntime, defaults" in out

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone can pin")
    def test_on_one_core_no_trial_has_two_threads(self, project_onnx: Path) -> None:
        code = (
            "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
            "from onnxpress.cli import main; main()"
        )
        words = [sys.executable, "-c", code, "tune", str(project_onnx), "--samples", "random:4"]
        done = subprocess.run(
            [*words, "--budget", "9", "--json"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for trial in json.loads(done.stdout)["trials"]:
            assert trial["settings"]["threads"] == 1
            assert trial["settings"]["requests"] == 1
            assert "execution_mode" not in trial["settings"]["options"]

    def test_a_batch_beyond_memory_is_refused(self, project_onnx: Path) -> None:
        for samples in ("random:4", None):
            with pytest.raises(InputError, match=r"--batch 99999999999 needs .* GB for its inputs"):
                if samples is None:
                    api.profile(project_onnx, batch=99_999_999_999)
                else:
                    api.tune(project_onnx, samples=samples, batch=99_999_999_999)

    def test_bad_input_is_one_line(self, project_onnx: Path) -> None:
        for words, said in (
            ({"budget": 0}, "--budget 0; expected a number of seconds above 0"),
            ({"batch": 0}, "--batch 0"),
            ({"objective": "size"}, "--objective size; expected latency or throughput"),
        ):
            with pytest.raises(InputError, match=said):
                api.tune(project_onnx, samples="random:4", **words)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"is no ONNX file; expected an ONNX file or a bundle"):
            api.tune("torch:nothing", samples="random:4")
