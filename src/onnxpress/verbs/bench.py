"""Scores and times models of any kind side by side, for several batch sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.progress import Progress
from onnxpress.runner import Artifact, OriginRef, Runner
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Signature
from onnxpress.source import OpenOptions, open_source
from onnxpress.task import Task, choose
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.score import score

SCORING_ROWS = 8


@dataclass(frozen=True)
class Thing:
    """Something to bench, by name: a file with settings, or an origin by reference."""

    name: str
    target: Artifact | OriginRef
    engine: str
    requested: str
    size_bytes: int

    @classmethod
    def of(
        cls, ref: object, engine: str | None, threads: int | None, processing: Processing | None
    ) -> Thing:
        """An ONNX file runs on ``engine`` (ONNX Runtime); other references on their framework."""
        if not isinstance(ref, str | Path):
            raise InputError(f"a {type(ref).__name__} cannot be benched", "a reference or a file")
        text = str(ref)
        if text.endswith(".onnx"):
            path = Path(text)
            if not path.is_file():
                raise InputError(f"{path} does not exist", "an ONNX file")
            settings = Settings(engine or "onnxruntime", threads=threads)
            target = Artifact(path, settings)
            name = f"{path.name} on {settings.engine}"
            return cls(name, target, settings.engine, "float32", path.stat().st_size)
        options = OpenOptions(processing=processing)
        with open_source(text, options) as origin:
            reference = OriginRef(text, options, threads, origin.fingerprint())
            return cls(f"{text} ({origin.baseline})", reference, origin.kind, "float32", 0)


def bench(
    things: Sequence[Thing],
    *,
    samples: Callable[[Signature], Samples],
    task: str | None,
    processing: Processing | None,
    batches: Sequence[int],
    rounds: int,
    seconds: float | None,
    progress: Progress,
) -> list[Measured]:
    """The first thing is the baseline, for speed and for quality."""
    if len({thing.name for thing in things}) < len(things):
        raise InputError("the same thing is benched twice", "different models")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxpress-")))
        runners: dict[str, Runner] = {}
        for thing in things:
            progress(f"opening {thing.name}", len(runners), len(things))
            runner = open_runner(thing.target)
            stack.callback(runner.close)
            runners[thing.name] = runner
        signatures = [runner.signature for runner in runners.values()]
        signature = next((s for s in signatures if _known(s)), signatures[0])
        data = samples(signature)
        bound = registry.create(Task, "tasks", task or choose(signature, data.kind)).bind(
            signature, processing
        )
        baseline = things[0].name
        progress("scoring", 0, len(data))
        qualities, failures = score(runners, baseline, bound, data, folder, SCORING_ROWS)
        candidates = [
            Candidate(t.name, t.target, t.engine, t.requested, t.size_bytes) for t in things
        ]
        results = []
        for batch in batches:
            records = [record for _, record in zip(range(batch), data, strict=False)]
            records = [records[i % len(records)] for i in range(batch)]
            measured = measure(
                [c for c in candidates if c.name not in failures],
                bound.encode(records),
                baseline=baseline,
                batch=batch,
                rounds=rounds,
                seconds=seconds,
                progress=progress,
                runners=runners,
            )
            results.append(measured.with_results(qualities, failures))
        return results


def _known(signature: Signature) -> bool:
    """Whether the signature tells sizes beyond the batch."""
    return any(isinstance(dim, int) for spec in signature.inputs for dim in spec.shape or ())
