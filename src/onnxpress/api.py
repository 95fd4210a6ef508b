"""The functions that people call: Python's face of the commands, with the same words.

Each takes references as the command line does (``model.onnx``, ``torch:net.py:make``) or live
objects, and returns a frozen result whose ``to_dict()`` is what ``--json`` prints. ``preprocess``
says how images become tensors; ``tokenizer``, a folder with ``tokenizer.json``, how texts do.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from onnxpress.calibrator import Calibrator
from onnxpress.errors import InputError, MissingExtra
from onnxpress.given import (
    batches_of,
    bound_of,
    check_at_least_one,
    check_measuring,
    fitting,
    is_bundle,
    model_of,
    on,
    open_options,
    processing_of,
    recipe_of,
    thing_of,
)
from onnxpress.machine import this_machine
from onnxpress.model import Model, load, peek
from onnxpress.pressing.plan import Request
from onnxpress.pressing.press import press as run_press
from onnxpress.pressing.press import press_plan
from onnxpress.pressing.result import Planned, Pressed
from onnxpress.processing import Processing
from onnxpress.progress import Progress, silent
from onnxpress.runnable import feeds_of, one_batch, runnable_of, samples_of
from onnxpress.samples import Samples
from onnxpress.signature import TensorSpec
from onnxpress.source import Exporter, ExportOptions, Origin, open_source
from onnxpress.spelling import read
from onnxpress.task import DEFAULT_FLOOR, choose, unused_labels
from onnxpress.verbs.bench import bench
from onnxpress.verbs.check import Checked, target_of
from onnxpress.verbs.check import check as run_check
from onnxpress.verbs.convert import Converted
from onnxpress.verbs.convert import convert as run_convert
from onnxpress.verbs.diff import Difference
from onnxpress.verbs.diff import diff as run_diff
from onnxpress.verbs.export import Exported
from onnxpress.verbs.export import export as run_export
from onnxpress.verbs.fix import fix as run_fix
from onnxpress.verbs.inspect import Inspected
from onnxpress.verbs.inspect import inspect as run_inspect
from onnxpress.verbs.listing import listing as run_listing
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.opset import InOpset
from onnxpress.verbs.opset import change_opset as run_change_opset
from onnxpress.verbs.optimize import Optimized
from onnxpress.verbs.optimize import optimize as run_optimize
from onnxpress.verbs.profile import profile as run_profile
from onnxpress.verbs.profiled import Profiled
from onnxpress.verbs.quantize import quantize as run_quantize
from onnxpress.verbs.quantized import Quantized
from onnxpress.verbs.schemes import Scheme, unsaturated
from onnxpress.verbs.score import RANDOM
from onnxpress.verbs.sweep import points_of
from onnxpress.verbs.trials import Job
from onnxpress.verbs.tune import tune as run_tune
from onnxpress.verbs.tuned import Tuned
from onnxpress.verbs.verify import Verified, compare
from onnxpress.wishes import wishes_of

if TYPE_CHECKING:
    from onnxpress.training.aware import Aware  # it imports PyTorch

OBJECTIVES = ("latency", "throughput")


def convert(
    ref: object,
    *,
    opset: int | None = None,
    shapes: Mapping[str, tuple[int | str, ...]] | None = None,
    static: bool = False,
    exporter: Exporter = "auto",
    verify: bool = True,
    inputs: Sequence[TensorSpec | str] = (),
    preprocess: str | Processing | None = None,
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
) -> Converted:
    """Convert ``ref`` to ONNX and compare it with the original on batches of 1, 2 and 5 rows.

    ``inputs`` tell what a model takes that does not say so: ``TensorSpec``, or texts such as
    ``x:float32[batch,3,224,224]``. A mismatch is not an error: see ``Converted.verified``.
    Raises ``SourceError`` where the model cannot be opened or no exporter can convert it.
    """
    options = open_options(inputs, preprocess, checkpoint, trust, custom_ops)
    wanted = ExportOptions(opset, shapes or {}, static, exporter)
    with open_source(ref, options) as origin:
        return run_convert(origin, wanted, verify=verify)


def verify(
    a: object,
    b: object,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    inputs: Sequence[TensorSpec | str] = (),
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
) -> Verified:
    """Compare two models of any kind on all ``samples``, or on random feeds of 1, 2 and 5 rows."""
    processing, own = processing_of(preprocess, tokenizer, samples), None
    options = open_options(inputs, processing, checkpoint, trust, custom_ops)
    with ExitStack() as stack:
        first = stack.enter_context(open_source(a, fitting(options, a)))
        second = stack.enter_context(open_source(b, fitting(options, b)))
        one = stack.enter_context(first.session())
        two = stack.enter_context(second.session())
        known = one.signature if first.kind == "onnx" else two.signature
        if samples is not None and processing is None:  # else nobody need know how
            own = first.processing or second.processing
        shows: Origin | Model = first if first.example else second
        if first.example is second.example is None and "onnx" in (first.kind, second.kind):
            shows = (first if first.kind == "onnx" else second).export(ExportOptions()).model
        batches = batches_of(known, samples, task, processing, limit, seed, shows, own=own)
        return on(batches, lambda feeds: compare(one, two, feeds()))


def inspect(
    model: str | Path | Model | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    custom_ops: str | Path | None = None,
) -> Inspected:
    """Count, measure and diagnose an ONNX model. Raises ``ModelError`` where it is none.

    ``shapes`` give inputs their shapes, or free dimensions their sizes: ``{"batch": [8]}``. All
    others have the size 1. With ``custom_ops`` also whether ONNX Runtime opens it with this
    library: else ``EngineError``.
    """
    return run_inspect(model_of(model, custom_ops), shapes)


def listing(model: str | Path | Model | onnx.ModelProto) -> Iterator[str]:
    """An ONNX model as text, a line for each node, with shapes."""
    return run_listing(model_of(model, None))


def check(
    model: str | Path | Model | onnx.ModelProto,
    *,
    runtime: str | None = None,
    isa: Sequence[str] | str = (),
    provider: str | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> Checked:
    """What is wrong with an ONNX model, or will be on its target, each finding with its fix.

    The target is this machine and the ONNX Runtime that is installed, but for ``runtime``
    (``onnxruntime==1.16``), ``isa`` (``AVX2``, or several by commas) and ``provider``
    (``CUDAExecutionProvider``, or ``NAME:key=value,…``). With ``samples`` activations are watched
    too. External data that ``load`` refuses is a finding. Raises ``ModelError`` for what is no
    ONNX, ``InputError`` for an unknown target.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    sets = [part for part in isa.split(",") if part.strip()] if isinstance(isa, str) else isa
    target = target_of(runtime, sets, provider)
    if isinstance(model, str | Path):
        opened = peek(model)
    else:
        opened = model_of(model, None).clone()
        opened.path = None  # the file need not be what the model is now
    opened = model_of(opened, custom_ops)
    if samples is None:
        return run_check(opened, target)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return run_check(opened, target, batches)


def diff(
    a: str | Path | Model | onnx.ModelProto, b: str | Path | Model | onnx.ModelProto
) -> Difference:
    """What was added, removed, changed and merged between two ONNX models, whatever the names.

    Raises ``ModelError`` where one of them is no ONNX.
    """
    return run_diff(model_of(a, None), model_of(b, None))


def export(
    model: str | Path | Model | onnx.ModelProto,
    to: str,
    output: str | Path,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> Exported:
    """Write an ONNX model as ``openvino``, ``ort``, ``tensorflow`` or ``tflite``.

    What was written is compared with it on ``samples`` (or random feeds).
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened = model_of(model, custom_ops)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return on(batches, lambda feeds: run_export(opened, to, Path(output), feeds))


def change_opset(
    model: str | Path | Model | onnx.ModelProto,
    to: int,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> InOpset:
    """Convert an ONNX model up or down to opset ``to``, compared with itself on ``samples``.

    Raises ``InputError`` for an unknown opset, ``ModelError`` where it cannot be converted.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened = model_of(model, custom_ops)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return on(batches, lambda feeds: run_change_opset(opened, to, feeds))


def optimize(
    model: str | Path | Model | onnx.ModelProto,
    *,
    recipe: str = "default",
    target: str = "portable",
    fix: Mapping[str, int] | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    verify: bool = True,
) -> Optimized:
    """Apply a recipe and prove on ``samples`` (or random feeds) that the outputs stay.

    ``recipe`` is passes separated by commas, where ``default`` stands for those that are best for
    the ``target``: ``portable`` (standard operators only) or ``onnxruntime`` (its own as well).
    ``fix`` gives free dimensions their sizes for good, by name. Without ``verify`` nothing is run
    and nothing proven.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened, steps = model_of(model, custom_ops), recipe_of(recipe, target)
    fixed = run_fix(opened, fix) if fix else opened
    batches = batches_of(fixed.signature, samples, task, processing, limit, seed, fixed)
    if not verify:
        return run_optimize(opened, None, steps, fixed=fix)
    return on(batches, lambda feeds: run_optimize(opened, feeds, steps, fixed=fix))


def quantize(
    model: str | Path | Model | onnx.ModelProto,
    *,
    scheme: str,
    samples: object,
    calibrator: str | None = None,
    activations: str = "uint8",
    bits: int | None = None,
    exclude: Sequence[str] = (),
    ranges: str | Path | None = None,
    rank: bool = False,
    engine: str | None = None,
    floor: float | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    label: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> Quantized:
    """Quantise with one scheme and measure what it did.

    ``scheme`` is ``static``, ``dynamic``, ``weight-only``, ``float16`` or ``bfloat16``, or several
    joined by ``+``, each for what those before it left in float.

    Calibration and scoring use different parts of ``samples``. Without a ``calibrator`` the one
    that does the least damage is found. ``bits`` are those of the weights: 8, with wider scales
    where the CPU saturates (``reduce_range``). ``exclude`` are patterns of nodes that stay float:
    names, operator types or modules of the source. The ``engine`` is onnxruntime, unless the scheme
    has bfloat16, which OpenVINO runs. ``ranges`` is a file to read the ranges from, or to write
    them to where there is none. Where the quality is below ``floor``, the fewest layers that it
    takes stay float; a quality that stays below is not an error: see ``Quantized.holds``. With
    ``rank`` the layers are ranked by the damage that each does (minutes for large models).
    """
    if settings is None and engine is None and "bfloat16" in scheme.split("+"):
        engine = "openvino"
    wishes = wishes_of(engine, threads, provider, session, settings)
    engine = wishes.of
    wanted = Scheme(scheme, engine, 8 if bits is None else bits, activations, calibrator)
    wanted, saturation = unsaturated(wanted, this_machine(), asked=bits is not None)
    if calibrator is not None:
        read(Calibrator, "calibrators", calibrator)
    if floor is not None and not floor <= 1:
        raise InputError(f"--floor {floor}", "a number of at most 1, such as 0.99")
    opened = model_of(model, custom_ops)
    processing = processing_of(preprocess, tokenizer, samples)
    given = Samples.open(samples, label=label, limit=limit, seed=seed, signature=opened.signature)
    data, note = given.fitting(opened.signature)
    task = task or choose(opened.signature, data.kind)
    bound = bound_of(opened.signature, data, task, processing)
    result = run_quantize(
        opened,
        bound,
        data,
        wanted,
        settings=wishes.settings.with_custom_ops(opened.custom_ops),
        exclude=exclude,
        ranges=None if ranges is None else Path(ranges),
        floor=floor,
        rank=rank,
        seed=seed,
        progress=progress,
    )
    note = unused_labels(task, labelled=given.has_labels) or note
    notes = tuple(text for text in (note, saturation) if text)
    return replace(result, warnings=(*notes, *result.warnings))


def quantize_aware(
    ref: object,
    example_inputs: object = None,
    *,
    samples: Iterable[object],
    weight_bits: int | None = None,
    activations: str = "uint8",
    calibrator: str = "minmax",
) -> Aware:
    """A PyTorch module that computes what the quantised model will, to be trained as such.

    ``ref`` is an ``nn.Module`` (in evaluation mode: BatchNorm is folded, dropout left out), which
    stays as it is, or anything that converts to ONNX. ``samples`` are batches of its inputs, such
    as a loader yields, with or without targets; ranges are observed on the first 256 rows.
    ``weight_bits`` (2 to 8) are stored as int8; without, 8, or 7 where this CPU saturates 8 (see
    ``onnxpress check``). Train ``Aware.module`` in a loop of your own or with ``Aware.fit``;
    ``Aware.model()`` is the ONNX model at any time, ``Aware.warnings`` what to know of samples and
    frozen parameters. Raises ``InputError`` where there is nothing to quantise, for samples with
    NaN or infinity and for what is not float32, ``SourceError`` for a model that does not convert
    or has an operator without a gradient here, ``MissingExtra`` without PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra.of("torch", "torch", "trains models")
    from onnxpress.training.prepare import quantize_aware as run_quantize_aware

    known = model_of(ref, None) if isinstance(ref, Model | onnx.ModelProto) else ref
    return run_quantize_aware(
        known,
        samples,
        example=example_inputs,
        weight_bits=this_machine().weight_bits if weight_bits is None else weight_bits,
        activations=activations,
        calibrator=calibrator,
    )


def measure(
    things: Sequence[object],
    *,
    samples: object,
    against: object = None,
    batches: Sequence[int] = (1,),
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

    The baseline is ``against``, or the first thing. One ``Measured`` for each of ``batches``, with
    ``lengths`` for each of both: texts are then made of exactly so many tokens. ``engine`` runs
    ONNX files, and is the only one of a bundle's that is used; ``provider``, ``session`` and
    ``settings`` say how: see ``wishes.wishes_of``. ``compiled`` adds the baseline as
    ``torch.compile`` makes it; ``end_to_end`` times from records to predictions. ``seconds`` bounds
    the time for each size, down to five rounds. What answers wrongly is not timed but told in
    ``failures``: below ``min_quality`` at the lower end or, without it, below half of the
    baseline's quality.
    """
    wishes = wishes_of(engine, threads, provider, session, settings)
    check_measuring(rounds, seconds, min_quality)
    points = points_of(batches, lengths)
    processing = processing_of(preprocess, tokenizer, samples)
    options = open_options(inputs, processing, checkpoint, trust, custom_ops)
    others = [thing for thing in things if against is None or str(thing) != str(against)]
    everything = others if against is None else [against, *others]
    named = [thing_of(thing, wishes, fitting(options, thing)) for thing in everything]
    if compiled:
        named.insert(1, named[0].compiled())
    return bench(
        named,
        samples=lambda signature: Samples.open(
            samples, label=label, limit=limit, seed=seed, signature=signature
        ),
        task=task,
        processing=processing,
        points=points,
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
    if objective not in OBJECTIVES:
        raise InputError(f"--objective {objective}", " or ".join(OBJECTIVES))
    if not 0 < budget < float("inf"):
        raise InputError(f"--budget {budget:g}", "a number of seconds above 0")
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
            feeds_of(bound, data, size),
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
