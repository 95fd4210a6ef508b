"""profile: where the time of a model goes, kernel by kernel, beside what each of them multiplies.

The total is measured without a profiler, in a process of its own; then the machine's peak, by one
large product; then the engine's profiler tells the kernels of as many runs as there were rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, Timeline, require
from onnxpress.errors import EngineError
from onnxpress.machine import this_machine
from onnxpress.model import MAPPED_BYTES, Model
from onnxpress.progress import Progress, silent
from onnxpress.runner import Artifact
from onnxpress.signature import Feeds
from onnxpress.sizing import sized
from onnxpress.values import name_nodes
from onnxpress.verbs.attribution import Share, attribute
from onnxpress.verbs.layers import layers
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.verbs.peak import measured_peak
from onnxpress.verbs.profiled import Node, Profiled, Rate
from onnxpress.verbs.verdict import verdict

MOST_EVENTS = 200_000
"""Kernels times runs that are recorded: a profiler's file takes a kilobyte for each."""
COSTLY = 0.2
"""A profiler that adds more than this to the total is warned of."""
WARM_UP = 3


def profile(
    artifact: Artifact,
    model: Model,
    feeds: Feeds,
    *,
    batch: int,
    rounds: int,
    requested: str = "float32",
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
    threads = settings.threads or this_machine().threads
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path, named = _named(artifact.path, model, Path(folder))
        target = Artifact(path, settings)
        candidate = Candidate(str(artifact), target, settings.engine, requested, 0)
        measured = measure(
            [candidate], feeds, baseline=str(artifact), batch=batch, rounds=rounds,
            progress=progress,
        )  # fmt: skip
        for failure in measured.failures.values():
            raise EngineError(failure)
        progress("measuring the machine's peak", 0, 0)
        peak = measured_peak(settings, Path(folder))
        progress("profiling", 0, 0)
        runs = max(3, min(rounds, MOST_EVENTS // max(1, sum(1 for _ in named.nodes()))))
        timeline = engine.profile(path, settings, feeds, runs, WARM_UP)
    shapes, _ = sized(named, {name: array.shape for name, array in feeds.items()})
    shares, lost = attribute(timeline.kernels, named, layers(named, shapes))
    latency = measured.rows[0].latency_ms
    found = Profiled(
        name=str(artifact),
        engine=settings.engine,
        threads=threads,
        batch=batch,
        shapes={name: array.shape for name, array in feeds.items()},
        total_ms=latency.typical,
        latency_ms=latency.to_dict(),
        profiled_ms=timeline.run_ms,
        calls=timeline.runs,
        method=timeline.method,
        peak_gflops=peak,
        nodes=_nodes(timeline, shares, peak),
        environment=measured.environment,
        events=timeline.events,
    )
    cautions = _cautions(found, lost, unknown=sum(share.macs is None for share in shares))
    noise = (measured.noisy,) if measured.noisy else ()
    return replace(found, warnings=(*noise, *cautions), verdict=verdict(found))


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
            f"profiling made a run {cost:.0%} slower ({found.total_ms:.3g} → "
            f"{found.profiled_ms:.3g} ms): small kernels look slower than they are"
        )
    if unknown:
        told.append(f"the sizes of {unknown} kernels are not known, so neither are their MACs")
    known = sum(node.rate.macs or 0 for node in found.nodes)
    if lost > 0.01 * (known + lost):
        share = lost / (known + lost)
        told.append(f"{share:.0%} of the MACs belong to nodes that no kernel is named after")
    if any(
        node.precision in ("int8", "bfloat16", "float16") and node.rate.macs for node in found.nodes
    ):
        told.append("the peak is that of float32: kernels of fewer bits may exceed it")
    return told
