"""Measuring ranks candidates as they are, says when it cannot, and survives their failures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpress.engine import Executed, Session
from onnxpress.errors import EngineError, InputError
from onnxpress.runner import Artifact
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.verbs.environment import cpu_mhz, environment
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.verbs.measured import Latency

ROW_KEYS = [
    "name", "engine", "requested", "executed", "batch", "length", "latency_ms",
    "throughput_per_s", "load_ms", "peak_rss_bytes", "size_bytes", "quality", "speedup", "tie",
    "fallbacks", "settings",
]  # fmt: skip

SIGNATURE = Signature((TensorSpec("x", "float32", None),), (TensorSpec("y", "float32", None),))
X = {"x": np.ones((2, 64), np.float32)}


class Busy(Session):
    """Computes for so long, by the clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.signature, self._seconds, self.closed = SIGNATURE, seconds, False

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        end = time.perf_counter() + self._seconds
        while time.perf_counter() < end:
            pass
        return {"y": feeds["x"]}

    def close(self) -> None:
        self.closed = True


class Dice:
    """A runner whose times are made up: so many seconds, and noise from a seed."""

    signature, load_ms = SIGNATURE, 1.0

    def __init__(self, seconds: float, noise: float, seed: int, fails_after: int = 10**9) -> None:
        self._seconds, self._noise, self._random = seconds, noise, np.random.default_rng(seed)
        self._left, self.closed, self.visits = fails_after, False, 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return dict(feeds)

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        self.visits += 1
        self._left -= 1
        if self._left < 0:
            raise EngineError("out of luck")
        noise = 1 + self._noise * self._random.random(5)
        return [1000.0, *(self._seconds * noise).tolist()]

    def executed(self) -> tuple[Executed, ...]:
        return (Executed("k", "MatMul", "int8"),)

    def fallbacks(self) -> tuple[str, ...]:
        return ()

    def peak_rss_bytes(self) -> int | None:
        return 1

    def close(self) -> None:
        self.closed = True


def nothing(name: str) -> Candidate:
    """A candidate whose runner is given."""
    return Candidate(name, Artifact(Path("none.onnx"), Settings("null")), "null", "float32", 1)


def dice(**runners: Dice) -> tuple[list[Candidate], dict[str, Dice]]:
    return [nothing(name) for name in runners], runners


@pytest.fixture
def product(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).random((64, 64), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "product.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_the_speedup_is_that_of_the_typical_calls() -> None:
    quick, slow = Busy(0.002), Busy(0.006)
    candidates = [
        Candidate("slow", slow, "python", "float32", 0),
        Candidate("quick", quick, "python", "float32", 0),
    ]
    measured = measure(candidates, X, baseline="slow", batch=2, rounds=6, block_ms=20)
    base, row = measured.rows
    assert (base.speedup.value, base.speedup.low, base.tie) == (1, 1, False)
    slowest, quickest = base.latency_ms.typical, row.latency_ms.typical
    assert slowest >= 6  # however busy the machine is
    assert quickest >= 2
    assert row.speedup.value == pytest.approx(slowest / quickest)
    assert row.tie == (row.speedup.low <= 1 <= row.speedup.high)
    assert row.throughput_per_s == pytest.approx(2000 / row.latency_ms.typical)
    assert (row.load_ms, row.peak_rss_bytes, row.executed) == (None, None, "unknown")
    assert not slow.closed


def test_equal_candidates_tie_and_unequal_ones_do_not() -> None:
    """In 95 of 100 cases at least: that is what the interval promises."""
    ties = {"base": 0, "same": 0, "half": 0}
    for seed in range(0, 300, 3):
        candidates, runners = dice(
            base=Dice(0.010, 0.1, seed),
            same=Dice(0.010, 0.1, seed + 1),
            half=Dice(0.005, 0.1, seed + 2),
        )
        measured = measure(candidates, X, baseline="base", batch=1, runners=runners)
        for row in measured.rows:
            assert row.tie == (row.name != "base" and row.speedup.low <= 1 <= row.speedup.high)
            ties[row.name] += row.tie
        assert measured.rows[2].speedup.value == pytest.approx(2, rel=0.05)
        assert measured.compare("base", "half").value == pytest.approx(0.5, rel=0.05)
    assert ties["same"] >= 90
    assert ties["base"] == ties["half"] == 0


def test_the_first_call_of_a_block_does_not_count() -> None:
    candidates, runners = dice(base=Dice(0.01, 0.0, 0))
    (row,) = measure(candidates, X, baseline="base", batch=1, rounds=4, runners=runners).rows
    assert row.latency_ms == pytest.approx(Latency(10, 0, 10, 10, 10, 10))


def test_given_runners_are_visited_once_a_round_and_left_open() -> None:
    candidates, runners = dice(base=Dice(0.01, 0, 0), other=Dice(0.01, 0, 1))
    told: list[tuple[str, int, int]] = []
    measured = measure(
        candidates,
        X,
        baseline="base",
        batch=1,
        rounds=7,
        runners=runners,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert measured.rounds == 7
    assert {len(times) for times in measured.round_ms.values()} == {7}
    assert {runner.visits for runner in runners.values()} == {2 + 7}
    assert not any(runner.closed for runner in runners.values())
    assert told[0] == ("opening base", 0, 2 * (3 + 7))
    assert [done for _, done, _ in told] == list(range(2 * (3 + 7)))


def test_long_calls_count_one_by_one() -> None:
    """Batches of a thousand would take hours otherwise."""

    class Asked(Dice):
        least: int

        def time(
            self,
            feeds: Mapping[str, np.ndarray],
            seconds: float,
            min_calls: int = 1,
            requests: int = 1,
        ) -> list[float]:
            self.least = min_calls
            return super().time(feeds, seconds, min_calls, requests)

    candidates, runners = dice(base=Asked(0.9, 0, 0), slow=Asked(1.1, 0, 0))
    measure(candidates, X, baseline="base", batch=1, rounds=5, runners=runners)
    assert [runner.least for runner in runners.values()] == [3 + 1, 1 + 1]  # the first never counts


def test_a_bound_on_the_time_leaves_five_rounds() -> None:
    candidates, runners = dice(base=Dice(0.01, 0, 0))
    measured = measure(candidates, X, baseline="base", batch=1, seconds=0, runners=runners)
    assert measured.rounds == 5


def test_failures_do_not_stop_the_others(product: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    unlucky = Dice(0.01, 0, 0, fails_after=4)
    candidates = [
        Candidate("good", Artifact(product, Settings("onnxruntime")), "onnxruntime", "float32", 9),
        Candidate("bad", Artifact(broken, Settings("onnxruntime")), "onnxruntime", "int8", 9),
        nothing("unlucky"),
    ]
    measured = measure(
        candidates, X, baseline="good", batch=2, rounds=3, runners={"unlucky": unlucky}
    )
    assert [row.name for row in measured.rows] == ["good"]
    assert "broken.onnx" in measured.failures["bad"]
    assert measured.failures["unlucky"] == "out of luck"


def test_without_its_baseline_there_are_times_but_no_speedups() -> None:
    candidates, runners = dice(base=Dice(0.01, 0, 0, fails_after=0), other=Dice(0.01, 0, 0))
    measured = measure(candidates, X, baseline="base", batch=1, rounds=3, runners=runners)
    (row,) = measured.rows
    assert (row.name, row.speedup, row.tie) == ("other", None, False)
    assert measured.failures == {"base": "out of luck"}


def test_names_are_checked() -> None:
    candidates, runners = dice(base=Dice(0.01, 0, 0))
    with pytest.raises(InputError, match="baseline 'torch'"):
        measure(candidates, X, baseline="torch", batch=1, runners=runners)
    with pytest.raises(InputError, match="unique names"):
        measure(candidates * 2, X, baseline="base", batch=1, runners=runners)


def test_a_baseline_that_varies_is_called_noisy() -> None:
    candidates, runners = dice(base=Dice(0.01, 5.0, 0))
    noisy = measure(candidates, X, baseline="base", batch=1, runners=runners).noisy
    assert noisy is not None
    assert "the baseline's rounds vary by" in noisy


def test_real_engines_side_by_side_in_the_shape_of_the_command_line(product: Path) -> None:
    def candidate(name: str, engine: str) -> Candidate:
        size = product.stat().st_size
        return Candidate(name, Artifact(product, Settings(engine)), engine, "float32", size)

    candidates = [
        candidate("ort", "onnxruntime"),
        candidate("ort again", "onnxruntime"),
        candidate("openvino", "openvino"),
    ]
    measured = measure(candidates, X, baseline="ort", batch=2, rounds=5, block_ms=20)
    assert measured.failures == {}
    told = json.loads(json.dumps(measured.to_dict()))
    assert [row["name"] for row in told["rows"]] == ["ort", "ort again", "openvino"]
    for row in told["rows"]:
        assert list(row) == ROW_KEYS
        assert row["executed"] == "float32"
        assert row["tie"] in {True, False}
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
        assert 20 << 20 < row["peak_rss_bytes"] < 1 << 30
        assert row["load_ms"] > 0
        assert row["speedup"]["low"] <= row["speedup"]["value"] <= row["speedup"]["high"]
    again = measured.rows[1].speedup
    assert again is not None
    assert again.low / 2 < 1 < again.high * 2


def test_environment_names_what_decides_a_time(tmp_path: Path) -> None:
    facts = json.loads(json.dumps(environment()))
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["machine"]["threads"] >= 1
    assert facts["time_utc"].endswith("+00:00")
    assert cpu_mhz(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\ncpu MHz\t\t: 3245.124\n")
    assert cpu_mhz(tmp_path) == 3245.124
