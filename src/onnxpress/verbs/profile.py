"""profile: where the time of a model goes, kernel by kernel, beside what each of them multiplies.

The total is measured without a profiler, in a process of its own: half of it before and half after
the engine's profiler tells the kernels of as many runs as there are rounds. The machine's peak, by
one large product, is measured between.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, Timeline, require
from onnxpress.errors import EngineError
from onnxpress.intervals import typical
from onnxpress.machine import this_machine
from onnxpress.model import MAPPED_BYTES, Model
from onnxpress.progress import Progress, silent
from onnxpress.runner import Artifact, Runner
from onnxpress.signature import Feeds
from onnxpress.sizing import sized
from onnxpress.values import name_nodes
from onnxpress.verbs.attribution import Share, attribute
from onnxpress.verbs.layers import layers
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.peak import measured_peak
from onnxpress.verbs.profiled import Node, Profiled, Rate
from onnxpress.verbs.verdict import verdict

MOST_EVENTS = 200_000
"""Kernels times runs that are recorded: a profiler's file takes a kilobyte for each."""
COSTLY = 0.2
"""A profiler that adds more than this to the total is warned of."""
BEYOND = 1.1
"""A float32 kernel faster than this many times the peak puts the peak in doubt."""
WARM_UP = 3
"""Runs with the profiler that do not count."""


def profile(
    artifact: Artifact,
    model: Model,
    feeds: Feeds,
    *,
    batch: int,
    rounds: int,
    progress: Progress = silent,
) -> Profiled:
    """Profile the file on ``feeds``, which hold ``batch`` records; ``model`` is what it holds.

    Raises ``EngineError`` where the engine is missing, refuses the file or the feeds, or does not
    tell where its time goes.
    """
    settings = artifact.settings
    engine = registry.create(Engine, "engines", settings.engine)
    require(engine, settings.engine)
    if type(engine).profile is Engine.profile:  # said before any work
        engine.profile(artifact.path, settings, feeds, 1)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path, named = _named(artifact.path, model, Path(folder))
        candidate = Candidate(str(artifact), Artifact(path, settings), settings.engine, "", 0)
        with contextlib.closing(open_runner(candidate.target)) as runner:
            before = _latency(candidate, runner, feeds, batch, (rounds + 1) // 2, progress)
            progress("measuring the machine's peak", 0, 0)
            peak = measured_peak(settings, Path(folder))
            progress("profiling", 0, 0)
            timeline = engine.profile(path, settings, feeds, _runs(rounds, named), WARM_UP)
            # Twice, since other programs may have been busy the first time.
            peak = max(peak, measured_peak(settings, Path(folder)))
            after = _latency(candidate, runner, feeds, batch, max(1, rounds // 2), progress)
    shapes, _ = sized(named, {name: array.shape for name, array in feeds.items()})
    shares, lost = attribute(timeline.kernels, named, layers(named, shapes))
    rounds_ms = before.round_ms[candidate.name] + after.round_ms[candidate.name]
    found = Profiled(
        name=str(artifact),
        engine=settings.engine,
        threads=settings.threads or this_machine().threads,
        batch=batch,
        shapes={name: array.shape for name, array in feeds.items()},
        total_ms=typical(rounds_ms),
        rounds_ms=rounds_ms,
        profiled_ms=timeline.run_ms,
        runs=timeline.runs,
        method=timeline.method,
        peak_gflops=peak,
        nodes=_nodes(timeline, shares, peak),
        environment=before.environment,
        events=timeline.events,
    )
    unknown = sum(share.macs is None for share in shares)
    noise = [text for text in dict.fromkeys((before.noisy, after.noisy)) if text]
    warnings = (*noise[:1], *_cautions(found, lost, unknown))
    return replace(found, warnings=warnings, verdict=verdict(found))


def _latency(
    candidate: Candidate,
    runner: Runner,
    feeds: Feeds,
    batch: int,
    rounds: int,
    progress: Progress,
) -> Measured:
    """Raises ``EngineError`` where it does not run."""
    found = measure(
        [candidate], feeds, baseline=candidate.name, batch=batch, rounds=rounds,
        progress=progress, runners={candidate.name: runner},
    )  # fmt: skip
    for failure in found.failures.values():
        raise EngineError(failure)
    return found


def _runs(rounds: int, model: Model) -> int:
    """As many as there are rounds, fewer where the graph is so large that events fill the disk."""
    nodes = sum(1 for _ in model.nodes())
    return max(3, min(rounds, MOST_EVENTS // max(1, nodes)))


def _named(path: Path, model: Model, folder: Path) -> tuple[Path, Model]:
    """A file in which every node has a name of its own, functions inlined: most are so already."""
    inlined = model.inlined()
    names = [node.name for node in inlined.nodes()]
    if not model.ir.functions and all(names) and len(set(names)) == len(names):
        return path, inlined
    clone = inlined.clone()
    name_nodes(clone.ir)
    return clone.save(folder / path.name, MAPPED_BYTES), clone


def _nodes(timeline: Timeline, shares: Sequence[Share], peak: float) -> tuple[Node, ...]:
    """Slowest first."""
    whole = sum(kernel.ms for kernel in timeline.kernels)
    nodes = [
        Node(
            kernel.name,
            kernel.op,
            kernel.provider,
            kernel.implementation,
            kernel.precision,
            kernel.calls,
            Rate.of(kernel.ms, whole, share.macs, peak),
            kernel.bytes,
            share.module,
            share.layers,
        )
        for kernel, share in zip(timeline.kernels, shares, strict=True)
    ]
    return tuple(sorted(nodes, key=lambda node: -node.rate.ms))


def _cautions(found: Profiled, lost: int, unknown: int) -> list[str]:
    """What to know before believing the numbers."""
    told = []
    cost = found.profiled_ms / found.total_ms - 1
    if cost > COSTLY:
        told.append(
            f"a run with the profiler took {cost:.0%} longer ({found.total_ms:.3g} → "
            f"{found.profiled_ms:.3g} ms), by the profiler or by other programs: believe the "
            "shares more than the milliseconds"
        )
    if cost < -COSTLY:
        told.append(
            f"runs with the profiler took {found.profiled_ms:.3g} ms and those without "
            f"{found.total_ms:.3g} ms: this machine was busy with something else for a while"
        )
    if unknown:
        told.append(f"the sizes of {unknown} kernels are not known, so neither are their MACs")
    known = sum(node.rate.macs or 0 for node in found.nodes)
    if lost > 0.01 * (known + lost):
        share = lost / (known + lost)
        told.append(f"{share:.0%} of the MACs belong to nodes that no kernel is named after")
    if any(
        node.rate.peak_share > BEYOND and node.precision == "float32"
        for node in found.nodes
        if node.rate.peak_share is not None
    ):
        told.append(
            "float32 kernels are faster than the measured peak: this machine was busy as it was "
            "measured, or their algorithm multiplies less than is counted"
        )
    if any(
        node.precision in ("int8", "bfloat16", "float16") and node.rate.macs for node in found.nodes
    ):
        told.append("the peak is that of float32: kernels of fewer bits may exceed it")
    return told
