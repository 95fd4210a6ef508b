"""What a profile says in words, and its trace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnxpress.engine import Event
from onnxpress.verbs.profiled import Node, Profiled, Rate
from onnxpress.verbs.trace import trace
from onnxpress.verbs.verdict import verdict

PEAK = 100.0


def node(name: str, op: str, ms: float, macs: int = 0, module: str = "") -> Node:
    rate = Rate.of(ms, 10.0, macs, PEAK)
    return Node(name, op, "CPU", "", "float32", 1, rate, None, module, (name,))


def profiled(*nodes: Node, total_ms: float = 10.0, profiled_ms: float = 10.0) -> Profiled:
    return Profiled(
        "m.onnx", "onnxruntime", 2, 1, {"x": (1,)}, total_ms, (total_ms,), profiled_ms, 5, "means",
        PEAK, nodes, {},
    )  # fmt: skip


def products(count: int, ms: float, gflops: float) -> list[Node]:
    macs = round(gflops * ms * 1e6 / 2)
    return [node(f"p{index}", "MatMul", ms, macs) for index in range(count)]


def test_what_multiplies_and_what_does_not() -> None:
    told = verdict(profiled(*products(4, 2.0, 71.0), node("s", "Softmax", 2.0)))
    assert told == (
        "80% of the time is in 4 matrix products that reach 71% of the peak (71 of 100 GFLOP/s in "
        "float32).",
        "'Softmax' takes 20%, which multiplies nothing.",
    )


def test_one_product_and_kinds_of_kernels() -> None:
    one = products(1, 5.0, 50.0)[0]
    conv = replace(one, name="c", op="QLinearConv")
    (told, *_) = verdict(profiled(one, conv))
    assert "1 matrix product and 1 convolution that reach 50% of the peak" in told
    assert verdict(profiled(one))[0].startswith(
        "100% of the time is in 1 matrix product that reaches"
    )


def test_the_kernel_that_is_slow_for_what_it_does() -> None:
    slow = node("slow_one", "Conv", 2.0, 2_000_000)
    told = verdict(profiled(*products(4, 2.0, 80.0), slow))
    assert told[1] == ("Slow for what it does: slow_one (Conv) takes 20% at 2% of the peak.")
    little = node("little", "Conv", 0.1, 100_000)
    assert len(verdict(profiled(*products(4, 2.0, 80.0), little, total_ms=8.2))) == 1, (
        "nothing to gain there"
    )


def test_an_operator_that_is_slow_for_what_it_does() -> None:
    depthwise = [node(f"d{i}", "GroupConvolution", 0.5, 2_500_000) for i in range(4)]
    told = verdict(profiled(*products(4, 2.0, 80.0), *depthwise))
    assert told[1] == "Slow for what they do: 4 'GroupConvolution' take 20% at 10% of the peak."


def test_time_between_kernels_needs_both_runs_to_have_it() -> None:
    nodes = products(1, 5.0, 50.0)
    assert "50% of a run is spent between kernels (5 ms)" in " ".join(verdict(profiled(*nodes)))
    busy = profiled(*nodes, total_ms=10.0, profiled_ms=5.2)
    assert "between" not in " ".join(verdict(busy))


def test_a_model_that_multiplies_nothing_and_one_without_kernels() -> None:
    told = verdict(profiled(node("r", "Relu", 9.0), node("a", "Add", 1.0)))
    assert told == ("'Relu' takes 90% and 'Add' takes 10%, which multiply nothing.",)
    assert verdict(profiled(total_ms=0.0, profiled_ms=0.0)) == ()


@pytest.mark.parametrize(
    ("modules", "alike"),
    [
        (["layer.0.dense", "layer.1.dense"], ["layer.*.dense"]),
        (["model.0.layer.0", "model.0.layer.11"], ["model.0.layer.*"]),
        (["blocks.1.around"], ["blocks.1.around"]),
        (["layer1.conv", "layer2.conv"], ["layer1.conv", "layer2.conv"]),
        (["a/0/b", "a/1/b", ""], ["a/*/b", ""]),
    ],
)
def test_modules_that_differ_by_a_number_are_one(modules: list[str], alike: list[str]) -> None:
    nodes = [node(f"n{i}", "Add", 5.0 - i, module=module) for i, module in enumerate(modules)]
    assert [one.name for one in profiled(*nodes).modules_alike] == alike


def test_a_trace_has_the_events_of_one_run() -> None:
    events = (Event("p0", 0.5, 2.0, 71), Event("p0", 3.0, 1.5, 72), Event("gone", 5.0, 1.0, 71))
    found = trace(replace(profiled(*products(1, 5.0, 50.0)), events=events))
    kinds = [(event["ph"], event["tid"]) for event in found["traceEvents"]]  # type: ignore[union-attr,attr-defined,index]
    assert kinds == [("M", 0), ("M", 0), ("M", 1), ("X", 0), ("X", 1), ("X", 0)]
    first = found["traceEvents"][3]  # type: ignore[index]
    assert (first["ts"], first["dur"], first["cat"]) == (500.0, 2000.0, "MatMul")
    assert first["args"]["macs"] == 125_000_000
