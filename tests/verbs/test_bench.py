"""A bench tells the truth about itself: ties, a planted delay, and wrong answers, never timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxpress.engine import Session
from onnxpress.errors import EngineError, SourceError
from onnxpress.runner import Artifact, InProcess
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.verbs import bench as verb
from onnxpress.verbs.bench import bench
from onnxpress.verbs.benched import missed_gates, summary
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.sweep import Sweep
from onnxpress.verbs.thing import Thing

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("n", 8)),), (TensorSpec("y", "float32", ("n", 8)),)
)
ROWS = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
FEEDS = {"x": ROWS[:2]}


class Asleep(Session):
    """Takes so long by the clock: what else the machine computes hardly moves a sleep."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.signature, self._seconds = SIGNATURE, seconds

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        time.sleep(self._seconds)
        return {"y": feeds["x"]}


class Known(InProcess):
    """A runner whose answers are given; counts how often it is timed, and at which batches."""

    def __init__(self, answer: object, load_ms: float | None = None) -> None:
        super().__init__(Asleep(0.0002))
        self._answer, self.load_ms, self.timed, self.closed = answer, load_ms, list[int](), 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        assert callable(self._answer)
        return {"y": self._answer(feeds["x"])}

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        self.timed.append(len(feeds["x"]))
        return super().time(feeds, min(seconds, 0.001), min_calls, requests)

    def close(self) -> None:
        self.closed += 1


def test_two_names_for_one_thing_tie() -> None:
    """Sleeps differ less than rounds do, so nothing may be told apart: here by chance in 5 %."""
    ties = 0
    for seed in range(5):
        candidates = [Candidate(name, Asleep(0.004), "python", "", 0) for name in ("a", "b")]
        found = measure(candidates, FEEDS, baseline="a", batch=2, rounds=8, block_ms=20, seed=seed)
        row = found.rows[1]
        assert row.speedup is not None
        assert row.speedup.value == pytest.approx(1, abs=0.05)
        ties += row.tie or abs(row.speedup.value - 1) < 0.01
    assert ties >= 3


def test_a_planted_delay_is_found_and_sized() -> None:
    """5 ms and 6 ms: 20 % slower, told as 15 to 25 %, the truth within the interval."""
    plain, delayed = 0.005, 0.006
    candidates = [
        Candidate("plain", Asleep(plain), "python", "", 0),
        Candidate("delayed", Asleep(delayed), "python", "", 0),
    ]
    found = measure(candidates, FEEDS, baseline="plain", batch=2, rounds=12, block_ms=40)
    ratio = found.rows[1].speedup
    assert ratio is not None
    assert not found.rows[1].tie
    assert 1.15 < 1 / ratio.value < 1.25
    assert 1 / ratio.high - 0.02 < delayed / plain < 1 / ratio.low + 0.02
    (line,) = missed_gates([found], 0.05, None)
    assert line.startswith("delayed takes 1.")
    assert missed_gates([found], 0.3, None) == []


def benched(
    monkeypatch: pytest.MonkeyPatch,
    runners: Mapping[str, Known | Exception],
    batches: Sequence[int] = (2,),
    min_quality: float | None = None,
) -> list[Measured]:
    """``bench`` of things by name, the first the baseline, with these runners for all of it."""

    def opened(target: object) -> Known:
        assert isinstance(target, Artifact)
        runner = runners[target.path.name]
        if isinstance(runner, Exception):
            raise runner
        return runner

    monkeypatch.setattr(verb, "open_runner", opened)
    monkeypatch.setattr("onnxpress.verbs.measure.open_runner", opened)
    monkeypatch.setattr("onnxpress.verbs.measure.WARM_LIMIT_S", 0.05)
    return bench(
        [Thing(name, Artifact(Path(name), Settings("null")), "null", "", 0) for name in runners],
        samples=lambda signature: Samples.open(ROWS, signature=signature),
        task="tensor",
        processing=None,
        sweep=Sweep(batches),
        rounds=5,
        seconds=None,
        min_quality=min_quality,
        progress=lambda *_: None,
    )


def shuffled(x: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permuted(x)


def one_nan(x: np.ndarray) -> np.ndarray:
    out = x.copy()
    out[-1, -1] = np.nan
    return out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (shuffled, "its outputs are wrong: quality "),
        (np.zeros_like, "its outputs are wrong: quality 0.000 (concordance"),
        (one_nan, "its outputs are wrong: 'y' has 1 NaN or infinite values of 64 where"),
        (lambda x: 5 * x, "its outputs are wrong: quality 0.378"),
        (lambda x: x * np.inf, "its outputs are wrong: 'y' has "),
    ],
)
def test_wrong_outputs_are_refused_before_timing(
    answer: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = {"base": Known(np.copy), "right": Known(np.copy), "wrong": Known(answer)}
    (found,) = benched(monkeypatch, runners)
    assert runners["wrong"].timed == []
    assert runners["right"].timed
    assert [row.name for row in found.rows] == ["base", "right"]
    assert found.failures["wrong"].startswith(why)
    assert "not timed" in found.failures["wrong"]
    assert found.refused.keys() == {"wrong"}
    (missed,) = missed_gates([found], None, None)
    assert missed.startswith("wrong was refused: its outputs are wrong")
    assert summary([found], [], [])["refused"] == {"wrong": found.refused["wrong"].to_dict()}
    assert Measured.from_dict(found.to_dict()).refused == found.refused


def test_the_quality_that_is_asked_for_decides_at_its_lower_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Coarse outputs are no wrong model, but too coarse for who asks for more."""

    def runners() -> dict[str, Known]:
        return {"base": Known(np.copy), "coarse": Known(lambda x: np.round(x * 2) / 2)}

    given = runners()
    (found,) = benched(monkeypatch, given)
    quality = found.rows[1].quality
    assert quality is not None
    assert 0.9 < quality.low < quality.value < 1
    given = runners()
    (found,) = benched(monkeypatch, given, min_quality=quality.low + 1e-6)
    assert given["coarse"].timed == []
    assert "at worst, below" in found.failures["coarse"]
    given = runners()
    (found,) = benched(monkeypatch, given, min_quality=quality.low - 1e-6)
    assert given["coarse"].timed
    assert found.failures == {}


def test_what_does_not_open_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SourceError("PyTorch cannot compile it")
    (found,) = benched(monkeypatch, {"base": Known(np.copy), "a": broken, "b": Known(np.copy)})
    assert [row.name for row in found.rows] == ["base", "b"]
    assert found.failures == {"a": "PyTorch cannot compile it"}
    with pytest.raises(SourceError, match="cannot compile"):
        benched(monkeypatch, {"base": Known(np.copy), "a": broken})
    with pytest.raises(EngineError, match="no engine"):
        benched(monkeypatch, {"base": EngineError("no engine"), "a": Known(np.copy)})


def test_a_sweep_opens_each_once_and_tells_what_it_repeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The least work first, results in the order that was asked for."""
    runners = {"base": Known(np.copy), "other": Known(np.copy)}
    found = benched(monkeypatch, runners, [64, 1, 8])
    assert [each.rows[0].batch for each in found] == [64, 1, 8]
    assert list(dict.fromkeys(runners["other"].timed)) == [1, 8, 64]
    assert found[0].notes == ("a batch of 64 repeats the 40 samples that there are",)
    assert found[1].notes == found[2].notes == ()
    for runner in runners.values():
        assert runner.closed == 2  # once after scoring, once after all points
    for each in found:
        row = each.rows[1]
        assert row.throughput_per_s == pytest.approx(row.batch * 1e3 / row.latency_ms.typical)
