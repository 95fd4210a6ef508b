"""The benchmark of optimisers judges as it says: failures, bars and intervals."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_optimize")


def test_the_bars(bench: ModuleType) -> None:
    def files(**ours: object) -> list[object]:
        good = {"nodes": 90, "attention": 12, "kernels": 90, "equal": True}
        return [
            bench.Figures("raw", nodes=500, kernels=400),
            bench.Figures("portable", **{**good, "attention": 0, **ours}),
            bench.Figures("for-ort", **{**good, **ours}),
            bench.Figures("onnxsim", nodes=100, equal=True),
            bench.Figures("onnxslim", nodes=10, equal=False),  # what is wrong sets no bar
        ]

    assert bench.shortfalls("bert-dynamo", files()) == []
    assert bench.shortfalls("bert-dynamo", files(nodes=101)) == [
        "bert-dynamo portable: 101 nodes, onnxsim leaves 100",
        "bert-dynamo for-ort: 101 nodes, the bar is 100",
    ]
    assert bench.shortfalls("bert-dynamo", files(attention=11)) == [
        "bert-dynamo for-ort: 11 of 12 attention blocks"
    ]
    for missed, told in [
        ({"kernels": 401}, "401 kernels, ONNX Runtime's own are 400"),
        ({"equal": False, "differs": "by 3"}, "outputs differ: by 3"),
        (
            {"latency": {"openvino": {"ms": 1.0, "ratio": 1.1, "low": 1.04, "high": 1.2}}},
            "1.100 × raw on openvino (1.040 to 1.200)",
        ),
    ]:
        told_of = [f"bert-dynamo {tool}: {told}" for tool in ("portable", "for-ort")]
        assert bench.shortfalls("bert-dynamo", files(**missed)) == told_of
    within = {"onnxruntime": {"ms": 1.0, "ratio": 1.1, "low": 1.02, "high": 1.2}}
    assert bench.shortfalls("bert-dynamo", files(latency=within)) == []
    large = bench.shortfalls("bert_470mb-dynamo", files(seconds=8.5, memory=3.2))
    assert len(large) == 4
    failed = bench.shortfalls("lstm-dynamo", files(why="no memory"))
    assert failed == [
        "lstm-dynamo portable failed: no memory",
        "lstm-dynamo for-ort failed: no memory",
    ]


def test_tables_are_80_columns_wide(bench: ModuleType) -> None:
    latency = {"ms": 1234.5, "ratio": 1.1, "low": 1.04, "high": 1.2, "noisy": None, "first": {}}
    found = [
        bench.Figures("raw", nodes=12345, kernels=1234, size_bytes=470_000_000),
        bench.Figures("for-ort", nodes=99999, attention=12, kernels=9999, seconds=999.99,
                      memory=159.6, equal=False, latency={"onnxruntime": latency}),
        bench.Figures("onnxsim", why="ValueError: " + "x" * 100),
    ]  # fmt: skip
    text = bench.table("bert-torchscript", found) + bench.overview(
        {"keras_transformer-tf2onnx": found}
    )
    assert max(map(len, text.splitlines())) <= 80
    assert "DIFFER" in text
    assert "onnxsim       failed: ValueError" in text


def test_intervals_widen_with_the_number_of_comparisons(bench: ModuleType) -> None:
    assert bench.stretch(20, 1) == pytest.approx(1)
    # Student's quantiles at 19 degrees: 2.093 for 5 %, 2.861 for 1 %.
    assert bench.stretch(20, 5) == pytest.approx(2.861 / 2.093, rel=1e-3)
    assert bench.stretch(5, 88) > bench.stretch(20, 88) > bench.stretch(20, 5)
