"""Scores and times models of any kind side by side, for several batch sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from onnxpress import registry
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.model import load
from onnxpress.processing import Processing
from onnxpress.progress import Progress
from onnxpress.runner import Artifact, OriginRef, Runner
from onnxpress.samples import Samples
from onnxpress.signature import Signature
from onnxpress.source import OpenOptions, open_source
from onnxpress.stacking import static_batch
from onnxpress.task import Task, choose
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.score import RANDOM, score
from onnxpress.wishes import Wishes

SCORING_ROWS = 8


@dataclass(frozen=True)
class Thing:
    """Something to bench, by name: a file with settings, or an origin by reference.

    ``task`` and ``processing`` are what the thing itself knows, None where it knows nothing.
    """

    name: str
    target: Artifact | OriginRef
    engine: str
    requested: str
    size_bytes: int
    task: str | None = None
    processing: Processing | None = None

    @classmethod
    def of(cls, ref: object, wishes: Wishes, options: OpenOptions) -> Thing:
        """An ONNX file runs as ``wishes`` say; other references on their framework."""
        if not isinstance(ref, str | Path):
            raise InputError(f"a {type(ref).__name__} cannot be benched", "a reference or a file")
        text = str(ref)
        if text.endswith(".onnx"):
            model = load(text)
            library = options.custom_ops
            settings = wishes.settings.with_custom_ops(library)
            target = Artifact(Path(text), settings)
            name = f"{text} on {settings.engine}"
            return cls(name, target, settings.engine, "float32", model.file_bytes)
        threads = wishes.threads or this_machine().threads  # as the engines do
        with open_source(text, options) as origin:
            reference = OriginRef(text, options, threads, origin.fingerprint())
            name = f"{text} ({origin.baseline})"
            return cls(name, reference, origin.kind, "float32", 0, processing=origin.processing)


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
    """The first thing is the baseline, for speed and for quality.

    Without ``task`` or ``processing``, which flags tell, those of the first thing that knows them
    are used.
    """
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
        fixed = next((s for s in map(static_batch, signatures) if s is not None), None)
        for batch in batches:
            if fixed not in (None, batch):
                raise InputError(f"--batch {batch}", f"{fixed}: the model takes no other")
        # An origin's own signature does not tell how many classes it has; a file's does.
        told = next((s for s in signatures if _tells_classes(s)), signature)
        data, note = samples(signature).fitting(told)
        task = task or next((t.task for t in things if t.task), None)
        if processing is None:
            processing = next((t.processing for t in things if t.processing), None)
        else:
            processing = processing.fitting(data.kind, signature)
        bound = registry.create(Task, "tasks", task or choose(signature, data.kind)).bind(
            signature, processing
        )
        baseline = things[0].name
        qualities, failures = score(runners, baseline, bound, data, folder, SCORING_ROWS, progress)
        candidates = [
            Candidate(t.name, t.target, t.engine, t.requested, t.size_bytes) for t in things
        ]
    # Timed in fresh processes, so that their peak memory is that of running alone.
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
        )
        found = measured.with_results(qualities, failures)
        results.append(replace(found, notes=(note,) if note else ()))
    return results


def missed_gates(
    results: Sequence[Measured], fail_if_slower: float | None, min_quality: float | None
) -> list[str]:
    """One line for each row that misses a gate.

    It is slower than the baseline by more than the share, beyond the noise; or its quality, at
    the lower end of its interval, is below ``min_quality``.
    """
    least = None if fail_if_slower is None else 1 / (1 + fail_if_slower)
    missed = []
    for result in results:
        for row in result.rows:
            if row.name == result.baseline:
                continue
            if least is not None and row.speedup and row.speedup.high < least:
                missed.append(f"{row.name} takes {1 / row.speedup.value:.2f}× the baseline's time")
            if min_quality is not None and row.quality and row.quality.low < min_quality:
                missed.append(f"{row.name} has quality {row.quality.low:.4f} at worst")
        missed += [f"{name} failed: {why}" for name, why in result.failures.items()]
    return list(dict.fromkeys(missed))


def cautions(results: Sequence[Measured], *, random: bool) -> list[str]:
    """Why the results should not be trusted blindly; ``random``: on made-up samples."""
    noise = [result.noisy for result in results if result.noisy]
    notes = [note for result in results for note in result.notes]
    fallen = [row.fallen for result in results for row in result.rows if row.fallen]
    return list(dict.fromkeys([RANDOM] * random + notes + fallen + noise))


def summary(
    results: Sequence[Measured], missed: Sequence[str], warnings: Sequence[str]
) -> dict[str, object]:
    """All batch sizes as the one object that ``--json`` prints."""
    return {
        "environment": dict(results[0].environment),
        "baseline": results[0].baseline,
        "rounds": results[0].rounds,
        "rows": [row.to_dict() for result in results for row in result.rows],
        "failures": {name: why for result in results for name, why in result.failures.items()},
        "missed": list(missed),
        "warnings": list(warnings),
    }


def _tells_classes(signature: Signature) -> bool:
    return any(
        spec.shape is not None and len(spec.shape) == 2 and isinstance(spec.shape[1], int)
        for spec in signature.outputs
    )


def _known(signature: Signature) -> bool:
    """Whether the signature tells sizes beyond the batch."""
    return any(isinstance(dim, int) for spec in signature.inputs for dim in spec.shape or ())
