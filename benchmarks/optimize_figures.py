"""What bench_optimize.py found of each file: tables in 80 columns, and the bars that ours miss."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import nets
import optimizers

RAW = "raw"
ENGINES = ("onnxruntime", "openvino")
SLOWER = 1.03
BERT_NODES, LARGE_S, LARGE_MEMORY = 100, 8.0, 3.0


@dataclass
class Figures:
    """One file: a network as one tool left it. ``why`` says why there is none.

    ``latency`` holds by engine the milliseconds, and the ratio to the raw file with the ends of
    its interval.
    """

    tool: str
    why: str = ""
    nodes: int = 0
    attention: int = 0
    kernels: int | None = None
    seconds: float | None = None
    cpu_s: float | None = None
    memory: float | None = None
    guarded_s: float | None = None
    guarded_memory: float | None = None
    equal: bool | None = None
    differs: str = ""
    size_bytes: int = 0
    latency: dict[str, dict[str, object]] = field(default_factory=dict)


def net_of(title: str) -> nets.Net:
    """The network of ``NAME-EXPORTER``."""
    return nets.NETS[title.rpartition("-")[0]]


def table(title: str, found: Sequence[Figures]) -> str:
    """What every tool left, in 80 columns."""
    net = net_of(title)
    lines = [
        "",
        f"{title}, {found[0].size_bytes / 1e6:.3g} MB",
        f"{'':13}  nodes attention kernels  seconds  memory  outputs",
    ]  # fmt: skip
    for figures in found:
        if figures.why:
            lines.append(f"{figures.tool:13} failed: {figures.why}"[:80])
            continue
        seconds = "" if figures.seconds is None else f"{figures.seconds:.2f}"
        memory = "" if figures.memory is None else f"{figures.memory:.1f}×"
        blocks = f"{figures.attention}/{net.attention}" if net.attention else "–"
        kernels = "–" if figures.kernels is None else figures.kernels
        outputs = "" if figures.tool == RAW else "equal" if figures.equal else "DIFFER"
        lines.append(
            f"{figures.tool:13} {figures.nodes:6} {blocks:>9} {kernels:>7} {seconds:>8} "
            f"{memory:>7}  {outputs}"
        )
    for engine in ENGINES:
        lines += latencies(engine, found)
    return "\n".join(lines)


def latencies(engine: str, found: Sequence[Figures]) -> list[str]:
    """The rows of one engine, where it was timed."""
    lines = []
    for figures in found:
        told = figures.latency.get(engine, {})
        if "failed" in told:
            lines.append(f"{figures.tool:13} failed: {told['failed']}"[:80])
        elif "ms" in told:
            first = "  measured twice" if "first" in told else ""
            lines.append(
                f"{figures.tool:13} {told['ms']:8.2f} ms   {told['ratio']:5.3f} "
                f"({told['low']:.3f} to {told['high']:.3f}){first}"
            )
    noisy = {
        str(f.latency[engine]["noisy"]) for f in found if f.latency.get(engine, {}).get("noisy")
    }
    title = f"on {engine}, × raw"
    return [title, *textwrap.wrap("; ".join(sorted(noisy)), 80), *lines] if lines else []


def shortfalls(title: str, found: Sequence[Figures]) -> list[str]:
    """Where ours does not hold its bar, one line each."""
    net = net_of(title)
    by = {figures.tool: figures for figures in found}
    told = []
    for tool in optimizers.OURS:
        ours = by.get(tool)
        if ours is None:
            continue
        if ours.why:
            told.append(f"{tool} failed: {ours.why}")
            continue
        checks = (outputs, kernels, peers_nodes, blocks, costs, slower)
        told += [f"{tool}: {why}" for check in checks for why in check(ours, by, net)]
        if tool == "for-ort" and title.startswith("bert-") and ours.nodes > BERT_NODES:
            told.append(f"{tool}: {ours.nodes} nodes, the bar is {BERT_NODES}")
    return [f"{title} {why}" for why in told]


Check = Callable[[Figures, Mapping[str, Figures], "nets.Net"], list[str]]


def outputs(ours: Figures, _: Mapping[str, Figures], __: nets.Net) -> list[str]:
    """They equal the raw file's."""
    return [] if ours.equal else [f"outputs differ: {ours.differs}"]


def kernels(ours: Figures, by: Mapping[str, Figures], _: nets.Net) -> list[str]:
    """No more than ONNX Runtime makes of the raw file."""
    own = by[RAW].kernels
    if own is None or ours.kernels is None or ours.kernels <= own:
        return []
    return [f"{ours.kernels} kernels, ONNX Runtime's own are {own}"]


def peers_nodes(ours: Figures, by: Mapping[str, Figures], _: nets.Net) -> list[str]:
    """Portable: no more than onnxsim and OnnxSlim leave where their outputs are equal."""
    fit = [by[n] for n in ("onnxsim", "onnxslim") if n in by and by[n].equal]
    best = min(fit, key=lambda peer: peer.nodes, default=None)
    if ours.tool != "portable" or best is None or ours.nodes <= best.nodes:
        return []
    return [f"{ours.nodes} nodes, {best.tool} leaves {best.nodes}"]


def blocks(ours: Figures, _: Mapping[str, Figures], net: nets.Net) -> list[str]:
    """Every attention block is one node, where the target has one for it."""
    if ours.tool == "portable" or ours.attention == net.attention:
        return []
    return [f"{ours.attention} of {net.attention} attention blocks"]


def costs(ours: Figures, _: Mapping[str, Figures], net: nets.Net) -> list[str]:
    """Time and memory of the large model."""
    told = []
    if not net.timed and ours.seconds is not None and ours.seconds > LARGE_S:
        told.append(f"{ours.seconds:.1f} s, the bar is {LARGE_S:.0f} s")
    if not net.timed and ours.memory is not None and ours.memory > LARGE_MEMORY:
        told.append(f"{ours.memory:.1f}× its size in memory, the bar is {LARGE_MEMORY:.0f}×")
    return told


def slower(ours: Figures, _: Mapping[str, Figures], __: nets.Net) -> list[str]:
    """Not slower than the raw file, measured twice."""
    return [
        f"{told['ratio']:.3f} × raw on {engine} ({told['low']:.3f} to {told['high']:.3f})"
        for engine, told in ours.latency.items()
        if "ms" in told and cast(float, told["low"]) > SLOWER
    ]


def overview(all_found: Mapping[str, Sequence[Figures]]) -> str:
    """One line for each file. Peers' nodes: the fewest of onnxsim and OnnxSlim, outputs equal."""
    lines = [
        "",
        f"{'':25} nodes{'':18} kernels{'':10} attention",
        f"{'':25}   raw port. peers f-ort   raw port. f-ort     f-ort",
    ]
    for name, found in all_found.items():
        by = {figures.tool: figures for figures in found}
        fit = [by[n].nodes for n in ("onnxsim", "onnxslim") if n in by and by[n].equal]
        net = net_of(name)
        done = {tool: figures for tool, figures in by.items() if not figures.why}
        mine, own = done.get("portable"), done.get("for-ort")
        cells = [by[RAW].nodes, mine and mine.nodes, min(fit, default=None), own and own.nodes,
                 by[RAW].kernels, mine and mine.kernels, own and own.kernels,
                 f"{own.attention}/{net.attention}" if own and net.attention else None]  # fmt: skip
        texts = ["–" if cell is None else str(cell) for cell in cells]
        lines.append(f"{name:25} " + " ".join(f"{t:>5}" for t in texts[:-1]) + f" {texts[-1]:>9}")
    return "\n".join(lines)
