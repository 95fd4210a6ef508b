"""Models as they run: measured, tuned, profiled, pressed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from onnxpress.given import (
    check_at_least_one,
    check_measuring,
    fitting,
    is_bundle,
    on,
    open_options,
    processing_of,
    thing_of,
)
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.pressing.plan import Request
from onnxpress.pressing.press import press as run_press
from onnxpress.pressing.press import press_plan
from onnxpress.pressing.result import Planned, Pressed
from onnxpress.processing import Processing
from onnxpress.progress import Progress, silent
from onnxpress.runnable import one_batch, runnable_of, samples_of
from onnxpress.samples import Samples
from onnxpress.signature import TensorSpec
from onnxpress.source import Exporter, ExportOptions
from onnxpress.task import DEFAULT_FLOOR
from onnxpress.verbs.bench import bench
from onnxpress.verbs.feeds import first_feeds
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.profile import profile as run_profile
from onnxpress.verbs.profiled import Profiled
from onnxpress.verbs.score import RANDOM
from onnxpress.verbs.sweep import Sweep
from onnxpress.verbs.trials import Job, check_search
from onnxpress.verbs.tune import tune as run_tune
from onnxpress.verbs.tuned import Tuned
from onnxpress.wishes import wishes_of


def measure(
    things: Sequence[object],
    *,
    samples: object,
    against: object = None,
    batches: Sequence[int] = (),
    lengths: Sequence[int] = (),
    compiled: bool = False,
    end_to_end: bool = False,
    rounds: int = 50,
    min_quality: float | None = None,
    engine: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    label: str | None = None,
    limit: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    inputs: Sequence[TensorSpec | str] = (),
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> list[Measured]:
    """Score and time ``things`` (ONNX files, bundles, references) side by side, per batch size.

    The baseline is ``against``, or the first thing. One ``Measured`` for each of ``batches`` (1, or
    the only one that the models take), with ``lengths`` for each of both: texts are then made of
    exactly so many tokens. ``engine`` runs
    ONNX files, and is the only one of a bundle's that is used; ``provider``, ``session`` and
    ``settings`` say how: see ``wishes.wishes_of``; where ``against`` is one of ``things``, it runs
    without ``settings`` beside the same with them. ``compiled`` adds the baseline as
    ``torch.compile`` makes it; ``end_to_end`` times from records to predictions. ``seconds`` bounds
    the time for each size, down to five rounds. What answers wrongly is not timed but told in
    ``failures``: below ``min_quality`` at the lower end or, without it, below half of the
    baseline's quality.
    """
    wishes = wishes_of(engine, threads, provider, session, settings)
    check_measuring(rounds, seconds, min_quality)
    sweep = Sweep(batches, lengths)
    processing = processing_of(preprocess, tokenizer, samples)
    options = open_options(inputs, processing, checkpoint, trust, custom_ops)
    same = against is not None and str(against) in map(str, things)
    named = [
        thing_of(thing, wishes, fitting(options, thing))
        for thing in things
        if settings is not None or str(thing) != str(against)
    ]
    if against is not None:
        untuned = wishes_of(engine, threads, provider, session) if same else wishes
        named.insert(0, thing_of(against, untuned, fitting(options, against)))
    if same and settings is not None:
        named[0] = replace(named[0], name=f"{named[0].name}, without {Path(settings).name}")
    if compiled:
        named.insert(1, named[0].compiled())
    return bench(
        named,
        samples=lambda signature: Samples.open(
            samples, label=label, limit=limit, seed=seed, signature=signature
        ),
        task=task,
        processing=processing,
        sweep=sweep,
        rounds=rounds,
        seconds=seconds,
        min_quality=min_quality,
        progress=progress,
        end_to_end=end_to_end,
    )


def tune(
    model: str | Path | Model | onnx.ModelProto,
    *,
    samples: object,
    objective: str = "latency",
    budget: float = 60.0,
    batch: int | None = None,
    floor: float = DEFAULT_FLOOR,
    engine: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Search for the settings that run ``model``, an ONNX file or a bundle, fastest here.

    Tried are the installed engines (``engine`` alone, where it is given; that of a bundle's form)
    and what each lets one choose: threads, streams, spinning, optimisation, memory, precision.
    ``objective`` is ``latency`` of a call of ``batch`` records (1), or ``throughput`` (batches of
    16, several at once). ``budget`` is in seconds. No more than ``threads`` are used. Settings of
    another precision must keep ``floor`` of the quality, all others the very answers.
    """
    check_search(objective, budget)
    check_at_least_one(batch=batch)
    wishes = wishes_of(engine, threads, provider, session)
    processing = processing_of(preprocess, tokenizer, samples)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        thing = runnable_of(model, wishes, custom_ops, Path(folder))
        first = thing.artifact.settings
        first = first.with_threads(first.threads or this_machine().threads)
        data, note = samples_of(thing.model.signature, samples, limit, seed)
        bound = thing.bound(data, task, processing)
        size = thing.rows(batch, usual=1 if objective == "latency" else 16)
        job = Job(
            thing.artifact.path,
            load(thing.artifact.path).file_bytes,
            bound,
            data,
            first_feeds(bound, data, thing.model.signature, size),
            size,
            objective,
            this_machine().limited(threads),
            floor,
        )
        alone = engine is not None or is_bundle(model)
        starts = [first, *([] if alone else thing.other_engines(first))]
        result = run_tune(job, starts, budget_s=budget, seed=seed, progress=progress)
    random = RANDOM if data.random and result.quality else ""
    return replace(result, warnings=(*filter(None, (random, note)), *result.warnings))


def profile(
    model: str | Path | Model | onnx.ModelProto,
    *,
    samples: object = None,
    engine: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
    batch: int | None = None,
    rounds: int = 30,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> Profiled:
    """Where the time of an ONNX model or a bundle goes: by kernel, operator and source module.

    It runs on ``batch`` records of ``samples``, or on random feeds; a bundle's fitting form runs
    as the bundle says. ``rounds`` are those of the latency without a profiler, and the runs with
    it. Raises ``EngineError`` where the engine does not run the model or has no profiler.
    """
    check_at_least_one(rounds=rounds, batch=batch)
    wishes = wishes_of(engine, threads, provider, session, settings)
    processing = processing_of(preprocess, tokenizer, samples)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        thing = runnable_of(model, wishes, custom_ops, Path(folder))
        batches = one_batch(thing, samples, batch, task, processing, limit, seed)
        return on(
            batches,
            lambda feeds: run_profile(
                thing.artifact,
                thing.model,
                next(iter(feeds())),
                batch=thing.rows(batch),
                rounds=rounds,
                progress=progress,
            ),
        )


def press(
    source: object,
    *,
    samples: object,
    output: str | Path | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    floor: float | None = None,
    objective: str = "latency",
    batch: int | None = None,
    engine: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
    rounds: int = 20,
    label: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    inputs: Sequence[TensorSpec | str] = (),
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
    exporter: Exporter = "auto",
    keep_float: bool = False,
    fresh: bool = False,
    dry_run: bool = False,
    tune: bool = False,
    budget: float = 60.0,
    progress: Progress = silent,
) -> Pressed | Planned:
    """Find the fastest form of ``source`` that keeps ``floor`` of its quality on ``samples``.

    ``source`` is a reference or a live model (an ``nn.Module``). Every form that the installed
    engines find worth trying is built, loaded from its file, scored on samples that calibration
    never saw and timed against the original. With ``output`` the result becomes a bundle there.
    ``floor`` is held at the lower end of the 95 % interval of the quality; without it, it is
    0.99 or what the samples can prove. ``engine`` alone is tried instead of all; ``provider``,
    ``session`` and ``settings`` go to the forms of that engine (ONNX Runtime). ``fresh``
    uses nothing that an earlier press to ``output`` made; ``dry_run`` only says what would be
    tried. With ``tune`` the best forms are tuned for ``budget`` seconds, see ``tune``.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    request = Request(
        samples=samples,
        task=task,
        processing=processing,
        floor=floor,
        objective=objective,
        batch=batch,
        wishes=wishes_of(engine, threads, provider, session, settings),
        seed=seed,
        limit=limit,
        label=label,
        rounds=rounds,
        keep_float=keep_float,
        fresh=fresh,
        tune=tune,
        budget_s=budget,
        open_options=open_options(inputs, processing, checkpoint, trust, custom_ops),
        export_options=ExportOptions(exporter=exporter),
    )
    if dry_run:
        return press_plan(source, request, progress)
    return run_press(source, request, None if output is None else Path(output), progress)
