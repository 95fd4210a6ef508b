"""Where OpenVINO's time goes, by its performance counters.

A counter holds the mean of all runs so far, in whole microseconds. So it is read after the warm-up
and after each of a few rounds, and what a round added is the difference of runs times mean. Where
one round stands out of the others the median round counts, else all of them: a mean of many runs is
rounded least.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnxpress.engine import Event, Executed, Timed, Timeline
from onnxpress.signature import Feeds

if TYPE_CHECKING:
    import openvino

ROUNDS = 5
STANDS_OUT = 1.5
"""A round of so many times the median, beyond what rounding does, is no typical one."""
METHOD = (
    "mean of the runs, or of the median of five rounds where one stands out; counters of whole "
    "microseconds"
)
Reading = dict[str, float]
"""Kernel → microseconds in all runs so far."""


def timeline(
    compiled: openvino.CompiledModel,
    executed: Callable[[str, Mapping[str, openvino.OVAny]], Executed],
    feeds: Feeds,
    runs: int,
    warm_up: int,
) -> Timeline:
    """``compiled`` counts (``PERF_COUNT``) and has not run yet. Raises ``RuntimeError``."""
    request = compiled.create_infer_request()
    given = {i: feeds[port.get_any_name()] for i, port in enumerate(compiled.inputs)}
    for _ in range(warm_up):
        request.infer(given, share_inputs=True)
    readings, walls, done = [_reading(request, warm_up)], [], warm_up
    ends = [runs * part // min(ROUNDS, runs) for part in range(1, min(ROUNDS, runs) + 1)]
    for end in ends:
        while done < warm_up + end:
            started = time.perf_counter()
            request.infer(given, share_inputs=True)
            walls.append(time.perf_counter() - started)
            done += 1
        readings.append(_reading(request, done))
    counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    kernels = tuple(_kernels(compiled, request, executed, readings, counts))
    return Timeline(kernels, statistics.median(walls) * 1e3, runs, tuple(_line(kernels)), METHOD)


def _reading(request: openvino.InferRequest, runs: int) -> Reading:
    return {
        info.node_name: info.real_time.total_seconds() * 1e6 * runs
        for info in request.profiling_info
        if "NOT_RUN" not in str(info.status)
    }


def _kernels(
    compiled: openvino.CompiledModel,
    request: openvino.InferRequest,
    executed: Callable[[str, Mapping[str, openvino.OVAny]], Executed],
    readings: Sequence[Reading],
    counts: Sequence[int],
) -> list[Timed]:
    """What ran, in the order in which it does."""
    words = {info.node_name: (info.node_type, info.exec_type) for info in request.profiling_info}
    nodes = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ops()}
    readers: dict[str, list[str]] = defaultdict(list)
    for name, node in nodes.items():
        for value in node.input_values():
            readers[value.get_node().get_friendly_name()].append(name)
    (device, *_) = compiled.get_property("EXECUTION_DEVICES")
    found = []
    for name in readings[-1]:
        info = nodes[name].get_rt_info() if name in nodes else {}
        told = executed(name, info)
        order = int(str(info["execOrder"].value)) if "execOrder" in info else 0
        (op, implementation), layers = words[name], told.layers or (name,)
        ms = _typical([reading.get(name, 0.0) for reading in readings], counts) / 1e3
        timed = Timed(
            name, op, str(device), ms, 1, layers, tuple(readers[name]), told.precision,
            implementation,
        )  # fmt: skip
        found.append((order, timed))
    return [timed for _, timed in sorted(found, key=lambda pair: pair[0])]


def _typical(totals: Sequence[float], counts: Sequence[int]) -> float:
    """Microseconds of one run, from those of all runs after the warm-up and after each round."""
    mean = (totals[-1] - totals[0]) / sum(counts)
    each = np.diff(totals) / np.asarray(counts)
    middle = float(np.median(each))
    stands_out = max(each) > STANDS_OUT * middle + 2 * len(counts)
    return max(0.0, middle if stands_out else mean)


def _line(kernels: Sequence[Timed]) -> list[Event]:
    """One after another: OpenVINO tells how long they took, not when they began."""
    events, now = [], 0.0
    for kernel in kernels:
        events.append(Event(kernel.name, now, kernel.ms))
        now += kernel.ms
    return events
