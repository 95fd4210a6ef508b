"""What engines' profilers write, as typical times of kernels."""

from __future__ import annotations

import pytest

from onnxpress.engines._onnxruntime_profile import FUSED, _kernels, _runs, _Written, midmean
from onnxpress.engines._openvino_profile import _typical

NOTHING = _Written(
    {"Body": ["p"], "Outer": ["y"], "Next": []}, {"Body": (), "Outer": (), "Next": ()}
)


def event(name: str, start: int, dur: int, op: str = "", thread: int = 1) -> dict[str, object]:
    node = {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": op}}
    session = {"cat": "Session", "name": name, "args": {}}
    return {**(node if op else session), "ts": start, "dur": dur, "tid": thread}


def run(start: int, body: int) -> list[dict[str, object]]:
    """A Loop with two runs of its body inside, then another kernel; written as they end."""
    return [
        event("Body", start + 2, body, "MatMul"),
        event("Body", start + 2 + body, body, "MatMul"),
        event("Outer", start + 1, 2 * body + 10, "Loop"),
        event("Next", start + 2 * body + 11, 5, "Relu"),
        event("model_run", start, 2 * body + 20),
    ]


def test_what_is_inside_a_loop_is_not_counted_twice() -> None:
    runs = list(_runs([event("session_initialization", 0, 5), *run(100, 20), *run(300, 20)]))
    assert [wall for wall, _ in runs] == [60, 60]
    assert [call.name for call in runs[0][1]] == ["Outer", "Body", "Body", "Next"]
    assert runs[1][1][0].start == 1, "since the run began"
    timed = {one.name: one for one in _kernels([calls for _, calls in runs], NOTHING)}
    assert {name: one.ms for name, one in timed.items()} == pytest.approx(
        {"Outer": 0.010, "Body": 0.040, "Next": 0.005}
    )
    assert timed["Body"].calls == 2
    assert timed["Body"].layers == ("Body", "p")


def test_one_slow_run_of_many_does_not_count() -> None:
    runs = [
        calls
        for _, calls in _runs([e for n in range(8) for e in run(n * 9999, 20 + 4000 * (n == 3))])
    ]
    timed = {one.name: one.ms for one in _kernels(runs, NOTHING)}
    assert timed["Body"] == pytest.approx(0.040)


def test_kernels_on_other_threads_are_not_inside() -> None:
    events = [
        event("Next", 2, 5, "Relu", thread=2),
        event("Outer", 1, 10, "Loop"),
        event("model_run", 0, 20),
    ]
    timed = {one.name: one.ms for one in _kernels([calls for _, calls in _runs(events)], NOTHING)}
    assert timed == pytest.approx({"Outer": 0.010, "Next": 0.005})


@pytest.mark.parametrize(
    ("values", "mean"),
    [([3], 3), ([1, 2], 1.5), ([1, 2, 3, 1000], 2.5), ([0, 5, 6, 7, 9, 99], 6.75)],
)
def test_the_mean_of_the_middle_half(values: list[int], mean: float) -> None:
    assert midmean(values) == mean


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("fused /a/MatMul", "/a/MatMul"),
        ("relu_1_nchwc", "relu_1"),
        ("node_Conv_52_token_1", "node_Conv_52"),
        ("node_MatMul_458/MatMulScaleFusion/", "node_MatMul_458"),
        ("/qkv/MatMul_quant", "/qkv/MatMul"),
        ("/head/Gemm", "/head/Gemm"),
    ],
)
def test_names_that_fusion_made(name: str, layer: str) -> None:
    assert FUSED.sub("", FUSED.sub("", name)) == layer


def test_openvinos_means_of_all_runs_so_far_become_those_after_the_warm_up() -> None:
    """900 µs in two slow runs of warm-up, then 100 µs each."""
    assert _typical([900, 1900, 2900, 3900], [10, 10, 10]) == pytest.approx(100)


def test_a_round_that_stands_out_does_not_count() -> None:
    assert _typical([0, 1000, 51000, 52000], [10, 10, 10]) == pytest.approx(100)


def test_rounding_alone_does_not_stand_out() -> None:
    """Counters are cut to whole microseconds: a round of a fast kernel may be told as none."""
    assert _typical([0, 0, 20, 30], [10, 10, 10]) == pytest.approx(1)
