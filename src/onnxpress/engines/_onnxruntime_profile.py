"""Where ONNX Runtime's time goes, by its own profiler.

The profiler writes one event for each execution of a kernel, in whole microseconds, those of
subgraphs too. The graph that it made at load time is written beside it: the values that a kernel
makes tell what it stands for where fusion gave it a name of its own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxpress.engine import Event, Timed, Timeline
from onnxpress.signature import Feeds

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Open = Callable[[Mapping[str, str]], "onnxruntime.InferenceSession"]
"""Opens the file with these session options on top of the user's."""

SUFFIX = "_kernel_time"
METHOD = "mean of the middle half of the runs, events of whole microseconds"
FUSED = re.compile(r"^fused |(_token_\d+|_nchwc|_quant|_MatMulInteger|/\w+Fusion/?)+$")
"""What ONNX Runtime puts around the name of a node, or of a value, as it fuses."""
PRECISIONS = {"float": "float32", "double": "float64"}
INT8 = ("int8", "uint8")
KEPT = ("provider", "op_name", "activation_size", "parameter_size", "output_size")


@dataclass
class _Call:
    """One event, with its place among the events of a run."""

    name: str
    start: int
    dur: int
    thread: int
    inner: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> int:
        """Microseconds without those of kernels inside it."""
        return max(0, self.dur - self.inner)


def timeline(opened: Open, feeds: Feeds, runs: int, warm_up: int) -> Timeline:
    """Raises what the session raises."""
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        session = opened(
            {
                "enable_profiling": "true",
                "profile_file_prefix": str(Path(folder) / "profile"),
                "optimized_model_filepath": str(optimized),
                # Weights stay out of the dumped graph: only its nodes are read.
                "session.optimized_model_external_initializers_file_name": "weights.bin",
            }
        )
        for _ in range(warm_up + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        del session
        known = _Written.of(optimized)
    measured = list(_runs(events))[warm_up:]
    walls = [wall for wall, _ in measured]
    typical = min(range(len(walls)), key=lambda place: abs(walls[place] - np.median(walls)))
    return Timeline(
        tuple(_kernels([calls for _, calls in measured], known)),
        midmean(walls) / 1e3,
        len(measured),
        tuple(Event(c.name, c.start / 1e3, c.dur / 1e3, c.thread) for c in measured[typical][1]),
        METHOD,
    )


def midmean(values: Sequence[float]) -> float:
    """The mean of the middle half: what single stalls do not move, finer than a median."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def _runs(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[_Call]]]:
    """Microseconds and kernels of each run, in the order in which these began.

    Events are written as they end, so a run follows its kernels.
    """
    calls: list[_Call] = []
    for event in events:
        name = str(event["name"])
        if event["cat"] == "Node" and name.endswith(SUFFIX):
            name = name.removesuffix(SUFFIX)
            calls.append(_Call(name, event["ts"], event["dur"], event["tid"], args=event["args"]))
        elif name == "model_run":
            calls.sort(key=lambda call: (call.start, -call.dur))
            _nest(calls)
            for call in calls:
                call.start -= event["ts"]
            yield event["dur"], calls
            calls = []


def _nest(calls: Sequence[_Call]) -> None:
    """Note in each call the time of those directly inside it, on the same thread."""
    open_: dict[int, list[_Call]] = defaultdict(list)
    for call in calls:
        stack = open_[call.thread]
        while stack and call.start >= stack[-1].start + stack[-1].dur:
            stack.pop()
        if stack and call.start + call.dur <= stack[-1].start + stack[-1].dur:
            stack[-1].inner += call.dur
        stack.append(call)


def _kernels(runs: Sequence[Sequence[_Call]], known: _Written) -> Iterator[Timed]:
    """All calls of one name are one kernel, in the order of the first calls."""
    times: dict[tuple[str, str], list[int]] = {}
    found: dict[tuple[str, str], list[_Call]] = defaultdict(list)
    for place, calls in enumerate(runs):
        for call in calls:
            key = call.name, str(call.args.get("op_name", ""))
            times.setdefault(key, [0] * len(runs))[place] += call.own
            found[key].append(call)
    for (name, op), own in times.items():
        calls = found[name, op]
        args = calls[0].args
        each = [int(call.args.get(k, 0)) for call in calls for k in KEPT if k.endswith("_size")]
        yield Timed(
            name,
            op,
            str(args.get("provider", "")),
            midmean(own) / 1e3,
            round(len(calls) / len(runs)),
            tuple(dict.fromkeys((FUSED.sub("", FUSED.sub("", name)), *known.makes[name]))),
            tuple(known.readers[name]),
            _precision(args.get("input_type_shape", ())),
            bytes=round(sum(each) / len(runs)) if any(each) else None,
        )


def _precision(inputs: Sequence[Mapping[str, object]]) -> str:
    """int8 where a tensor of it goes in, else the type of the first one."""
    types = [next(iter(each)) for each in inputs if each]
    if any(name in INT8 for name in types):
        return "int8"
    return PRECISIONS.get(types[0], types[0]) if types else ""


@dataclass(frozen=True)
class _Written:
    """The graph that ONNX Runtime made: what each kernel makes, and which ones read that."""

    makes: Mapping[str, Sequence[str]]
    readers: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, path: Path) -> _Written:
        import onnx

        makes: dict[str, list[str]] = defaultdict(list)
        readers: dict[str, list[str]] = defaultdict(list)
        for graph in _graphs(onnx.load(str(path), load_external_data=False).graph):
            maker = {
                name: _name(i, node) for i, node in enumerate(graph.node) for name in node.output
            }
            for index, node in enumerate(graph.node):
                makes[_name(index, node)] += filter(None, node.output)
                for value in node.input:
                    if value in maker:
                        readers[maker[value]].append(_name(index, node))
        return cls(makes, readers)


def _name(index: int, node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type}_{index}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)
