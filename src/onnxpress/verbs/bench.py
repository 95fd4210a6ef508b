"""Scores and times models of any kind side by side, for several batches and lengths of texts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Session
from onnxpress.errors import EngineError, InputError, SourceError
from onnxpress.machine import this_machine
from onnxpress.processing import Processing
from onnxpress.progress import Progress
from onnxpress.runner import Artifact, EndToEnd, OriginRef, Runner, Target
from onnxpress.samples import Samples
from onnxpress.signature import Feeds, Signature
from onnxpress.stacking import static_batch
from onnxpress.task import Quality, Task, choose
from onnxpress.verbs.alike import check_alike
from onnxpress.verbs.growth import Growth
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.refusal import Seen, refusals
from onnxpress.verbs.score import score
from onnxpress.verbs.sweep import Point, Sweep, Work
from onnxpress.verbs.thing import Thing

SCORING_ROWS = 8


def bench(
    things: Sequence[Thing],
    *,
    samples: Callable[[Signature], Samples],
    task: str | None,
    processing: Processing | None,
    sweep: Sweep,
    rounds: int,
    seconds: float | None,
    min_quality: float | None,
    progress: Progress,
    end_to_end: bool = False,
) -> list[Measured]:
    """The first thing is the baseline, for speed and for quality. One result for each point.

    ``end_to_end`` times from records to predictions instead of the models alone.

    Without ``task`` or ``processing``, which flags tell, those of the first thing that knows them
    are used. What answers wrongly is not timed: see ``refusals``.
    """
    if len({thing.name for thing in things}) < len(things):
        raise InputError("the same thing is benched twice", "different models")
    if end_to_end and sweep.lengths:
        raise InputError("--length with --end-to-end", "texts as they are", "leave one of them out")
    scored = _scored(things, samples, task, processing, sweep, min_quality, progress)
    points = scored.points
    timed = [thing.candidate for thing in things if thing.name not in scored.failures]
    feeds = scored.work.feeds
    if end_to_end:
        timed = [replace(each, target=scored.around(each.target)) for each in timed]
        feeds = scored.work.records
    found = _timed(timed, feeds, points, rounds, seconds, progress)
    return [
        replace(
            found[point].with_results(scored.qualities, scored.failures),
            refused=scored.refused,
            notes=tuple(note for note in (scored.note, scored.work.note(point)) if note),
        )
        for point in points
    ]


@dataclass(frozen=True)
class _Scored:
    """What is known before timing; ``failures`` has the reasons of the ``refused`` as well."""

    work: Work
    points: Sequence[Point]
    task: str
    signature: Signature
    processing: Processing | None
    note: str
    qualities: Mapping[str, Quality]
    failures: Mapping[str, str]

    @property
    def refused(self) -> dict[str, Quality]:
        return {name: each for name, each in self.qualities.items() if name in self.failures}

    def around(self, target: Target | Session) -> EndToEnd:
        assert isinstance(target, Artifact | OriginRef)
        return EndToEnd(target, self.task, self.signature, self.processing)


def _scored(
    things: Sequence[Thing],
    samples: Callable[[Signature], Samples],
    task: str | None,
    processing: Processing | None,
    sweep: Sweep,
    min_quality: float | None,
    progress: Progress,
) -> _Scored:
    """Open everything once, see that it can be compared, and score it."""
    baseline = things[0].name
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxpress-")))
        runners, unopened = _opened(things, stack, progress)
        signatures = {name: runner.signature for name, runner in runners.items()}
        check_alike(signatures, baseline)
        every = list(signatures.values())
        fixed = next((b for b in map(static_batch, every) if b is not None), None)
        points = sweep.points(fixed)
        signature = next((s for s in every if _known(s)), every[0])
        # An origin's own signature does not tell how many classes it has; a file's does.
        told = next((s for s in every if _tells_classes(s)), signature)
        data, note = samples(signature).fitting(told)
        task = task or next((t.task for t in things if t.task), None)
        if processing is None:
            processing = next((t.processing for t in things if t.processing), None)
        else:
            processing = processing.fitting(data.kind, signature)
        task = task or choose(signature, data.kind)
        bound = registry.create(Task, "tasks", task).bind(signature, processing)
        seen = Seen()
        Work(bound, data, fixed).check(points)
        qualities, failures = score(
            runners, baseline, bound, data, folder, SCORING_ROWS, progress, watch=seen.watch
        )
        work = Work(bound, data, fixed, seen.row_bytes)
        work.check(points)
    wrong = refusals(qualities, seen.broken, baseline, min_quality, random=data.random)
    known = (work, points, task, signature, processing, note)
    return _Scored(*known, qualities, {**unopened, **failures, **wrong})


def _opened(
    things: Sequence[Thing], stack: ExitStack, progress: Progress
) -> tuple[dict[str, Runner], dict[str, str]]:
    """The runners by name, and why others have none. Raises where there is nothing to compare."""
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    first: Exception | None = None
    for index, thing in enumerate(things):
        progress(f"opening {thing.name}", index, len(things))
        try:
            runner = open_runner(thing.target)
        except (EngineError, SourceError) as error:
            if thing is things[0]:
                raise
            failures[thing.name], first = str(error), first or error
            continue
        stack.callback(runner.close)
        runners[thing.name] = runner
    if first is not None and len(runners) == 1:
        raise first
    return runners, failures


def _timed(
    candidates: Sequence[Candidate],
    feeds: Callable[[Point], Feeds],
    points: Sequence[Point],
    rounds: int,
    seconds: float | None,
    progress: Progress,
) -> dict[Point, Measured]:
    """The least work first, in processes that stay open from point to point.

    They are fresh, so that scoring is not in their peak memory. What failed at a point is opened
    anew for the next one.
    """
    found: dict[Point, Measured] = {}
    growth, runners = Growth(this_machine().memory_bytes), dict[str, Runner]()
    baseline = candidates[0].name
    with ExitStack() as stack:
        for point in sorted(points, key=lambda point: point.work):
            why = growth.refusal(point)
            if why:
                last = next(reversed(found.values()))
                failures = {each.name: why for each in candidates}
                found[point] = Measured(last.environment, baseline, (), 0, None, failures)
                continue
            for each in candidates if len(points) > 1 else ():
                if each.name not in runners:
                    with contextlib.suppress(EngineError, SourceError):  # ``measure`` tells it
                        runners[each.name] = open_runner(each.target)
                        stack.callback(runners[each.name].close)
            measured = measure(
                candidates,
                feeds(point),
                baseline=baseline,
                batch=point.batch,
                length=point.length,
                rounds=rounds,
                seconds=seconds,
                progress=progress,
                runners=runners,
            )
            growth.add(point, measured)
            found[point] = _told_at(point, measured) if len(points) > 1 else measured
            for name in measured.failures:
                failed = runners.pop(name, None)
                if failed is not None:
                    failed.close()
    return found


def _told_at(point: Point, measured: Measured) -> Measured:
    failures = {name: f"{point}: {why}" for name, why in measured.failures.items()}
    return replace(measured, failures=failures)


def _tells_classes(signature: Signature) -> bool:
    return any(
        spec.shape is not None and len(spec.shape) == 2 and isinstance(spec.shape[1], int)
        for spec in signature.outputs
    )


def _known(signature: Signature) -> bool:
    """Whether the signature tells sizes beyond the batch."""
    return any(isinstance(dim, int) for spec in signature.inputs for dim in spec.shape or ())
