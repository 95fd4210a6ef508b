"""The functions that people call: Python's face of the commands, with the same words.

Each takes references as the command line does (``model.onnx``, ``torch:net.py:make``) or live
objects, and returns a frozen result whose ``to_dict()`` is what ``--json`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from onnxpress import predictor, registry
from onnxpress.batching import rows_per_batch
from onnxpress.bundle import MANIFEST
from onnxpress.custom_ops import check_library
from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.machine import check_threads
from onnxpress.model import Model, load, peek
from onnxpress.pressing.plan import Request
from onnxpress.pressing.press import press as run_press
from onnxpress.pressing.press import press_plan
from onnxpress.pressing.result import Planned, Pressed
from onnxpress.processing import Processing
from onnxpress.progress import Progress, silent
from onnxpress.recipe import Recipe
from onnxpress.runner import Artifact
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import Exporter, ExportOptions, OpenOptions, Origin, open_source
from onnxpress.task import Bound, Task, choose
from onnxpress.verbs.bench import Thing, bench
from onnxpress.verbs.check import Checked, target_of
from onnxpress.verbs.check import check as run_check
from onnxpress.verbs.convert import BATCHES, Converted
from onnxpress.verbs.convert import convert as run_convert
from onnxpress.verbs.diff import Difference
from onnxpress.verbs.diff import diff as run_diff
from onnxpress.verbs.domains import Domains, domains
from onnxpress.verbs.export import Exported
from onnxpress.verbs.export import export as run_export
from onnxpress.verbs.feeds import sample_feeds
from onnxpress.verbs.fix import fix as run_fix
from onnxpress.verbs.inspect import Inspected
from onnxpress.verbs.inspect import inspect as run_inspect
from onnxpress.verbs.listing import listing as run_listing
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.opset import InOpset
from onnxpress.verbs.opset import change_opset as run_change_opset
from onnxpress.verbs.optimize import RECIPES, Optimized
from onnxpress.verbs.optimize import optimize as run_optimize
from onnxpress.verbs.quantize import Quantized
from onnxpress.verbs.quantize import quantize as run_quantize
from onnxpress.verbs.verify import Verified, compare


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
    options = _open_options(inputs, preprocess, checkpoint, trust, custom_ops)
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
    limit: int | None = None,
    seed: int = 0,
    inputs: Sequence[TensorSpec | str] = (),
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
) -> Verified:
    """Compare two models of any kind on all ``samples``, or on random feeds of 1, 2 and 5 rows."""
    processing = _processing(preprocess)
    options = _open_options(inputs, processing, checkpoint, trust, custom_ops)
    with ExitStack() as stack:
        first = stack.enter_context(open_source(a, _fitting(options, a)))
        second = stack.enter_context(open_source(b, _fitting(options, b)))
        one = stack.enter_context(first.session())
        two = stack.enter_context(second.session())
        known = one.signature if first.kind == "onnx" else two.signature
        if samples is not None:  # else nothing is prepared, and nobody need know how
            processing = processing or first.processing or second.processing
        shows: Origin | Model = first if first.example else second
        if first.example is second.example is None and "onnx" in (first.kind, second.kind):
            shows = (first if first.kind == "onnx" else second).export(ExportOptions()).model
        batches = _batches(known, samples, task, processing, limit, seed, shows)
        return compare(one, two, batches())


def inspect(
    model: str | Path | Model,
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    custom_ops: str | Path | None = None,
) -> Inspected:
    """Count, measure and diagnose an ONNX model. Raises ``ModelError`` where it is none.

    ``shapes`` give inputs their shapes, or free dimensions their sizes: ``{"batch": [8]}``. All
    others have the size 1. With ``custom_ops`` also whether ONNX Runtime opens it with this
    library: else ``EngineError``.
    """
    return run_inspect(_model(model, custom_ops), shapes)


def listing(model: str | Path | Model) -> Iterator[str]:
    """An ONNX model as text, a line for each node, with shapes."""
    return run_listing(_model(model, None))


def check(
    model: str | Path | Model,
    *,
    runtime: str | None = None,
    isa: Sequence[str] | str = (),
    provider: str | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
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
    sets = [part for part in isa.split(",") if part.strip()] if isinstance(isa, str) else isa
    target = target_of(runtime, sets, provider)
    if isinstance(model, Model):
        opened = model.clone()
        opened.path = None  # the file need not be what the model is now
    else:
        opened = peek(model)
    opened = _model(opened, custom_ops)
    if samples is None:
        return run_check(opened, target)
    batches = _batches(
        opened.signature, samples, task, _processing(preprocess), limit, seed, opened
    )
    return run_check(opened, target, batches)


def diff(a: str | Path | Model, b: str | Path | Model) -> Difference:
    """What was added, removed, changed and merged between two ONNX models, whatever the names.

    Raises ``ModelError`` where one of them is no ONNX.
    """
    return run_diff(_model(a, None), _model(b, None))


def export(
    model: str | Path | Model,
    to: str,
    output: str | Path,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> Exported:
    """Write an ONNX model as ``openvino``, ``ort``, ``tensorflow`` or ``tflite``.

    What was written is compared with it on ``samples`` (or random feeds).
    """
    opened = _model(model, custom_ops)
    batches = _batches(
        opened.signature, samples, task, _processing(preprocess), limit, seed, opened
    )
    return run_export(opened, to, Path(output), batches)


def change_opset(
    model: str | Path | Model,
    to: int,
    *,
    samples: object = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> InOpset:
    """Convert an ONNX model up or down to opset ``to``, compared with itself on ``samples``.

    Raises ``InputError`` for an unknown opset, ``ModelError`` where it cannot be converted.
    """
    opened = _model(model, custom_ops)
    batches = _batches(opened.signature, samples, None, None, None, seed, opened)
    return run_change_opset(opened, to, batches)


def optimize(
    model: str | Path | Model,
    *,
    recipe: str = "default",
    target: str = "portable",
    fix: Mapping[str, int] | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
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
    opened, steps = _model(model, custom_ops), _recipe(recipe, target)
    fixed = run_fix(opened, fix) if fix else opened
    batches = _batches(fixed.signature, samples, task, _processing(preprocess), limit, seed, fixed)
    return run_optimize(opened, batches if verify else None, steps, fixed=fix)


def quantize(
    model: str | Path | Model,
    *,
    scheme: str,
    samples: object,
    calibrator: str = "minmax",
    bits: int = 8,
    engine: str = "onnxruntime",
    floor: float | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    label: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> Quantized:
    """Quantise with one scheme (``dynamic``, ``static``, ``weight-only``) and measure what it did.

    Calibration and scoring use different parts of ``samples``. A quality below ``floor`` is not
    an error: see ``Quantized.holds``.
    """
    _check_at_least_one(threads=threads)
    if floor is not None and not floor <= 1:
        raise InputError(f"--floor {floor}", "a number of at most 1, such as 0.99")
    registry.get("engines", engine)  # an unknown name is said before any work
    opened = _model(model, custom_ops)
    processing = _processing(preprocess)
    data = Samples.open(samples, label=label, limit=limit, seed=seed, signature=opened.signature)
    data, note = data.fitting(opened.signature)
    bound = _bound(opened.signature, data, task, processing)
    result = run_quantize(
        opened,
        bound,
        data,
        scheme=scheme,
        calibrator=calibrator,
        bits=bits,
        settings=Settings(engine, threads=threads, custom_ops=opened.custom_ops),
        floor=floor,
        seed=seed,
        progress=progress,
    )
    return replace(result, warnings=(*([note] if note else []), *result.warnings))


def measure(
    things: Sequence[object],
    *,
    samples: object,
    against: object = None,
    batches: Sequence[int] = (1,),
    rounds: int = 50,
    engine: str | None = None,
    threads: int | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
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

    The baseline is ``against``, or the first thing. One ``Measured`` for each of ``batches``.
    ``engine`` runs ONNX files; a bundle says itself what runs it here.
    """
    _check_at_least_one(rounds=rounds, threads=threads)
    if rounds < MIN_ROUNDS:
        raise InputError(f"--rounds {rounds}", f"at least {MIN_ROUNDS}: fewer prove nothing")
    for size in batches:
        _check_at_least_one(batch=size)
    options = _open_options(inputs, preprocess, checkpoint, trust, custom_ops)
    others = [thing for thing in things if against is None or str(thing) != str(against)]
    everything = others if against is None else [against, *others]
    named = [_thing(thing, engine, threads, _fitting(options, thing)) for thing in everything]
    return bench(
        named,
        samples=lambda signature: Samples.open(
            samples, label=label, limit=limit, seed=seed, signature=signature
        ),
        task=task,
        processing=options.processing,
        batches=batches,
        rounds=rounds,
        seconds=seconds,
        progress=progress,
    )


def press(
    source: object,
    *,
    samples: object,
    output: str | Path | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    floor: float | None = None,
    objective: str = "latency",
    batch: int | None = None,
    engine: str | None = None,
    threads: int | None = None,
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
    progress: Progress = silent,
) -> Pressed | Planned:
    """Find the fastest form of ``source`` that keeps ``floor`` of its quality on ``samples``.

    ``source`` is a reference or a live model (an ``nn.Module``). Every form that the installed
    engines find worth trying is built, loaded from its file, scored on samples that calibration
    never saw and timed against the original. With ``output`` the result becomes a bundle there.
    ``floor`` is held at the lower end of the 95 % interval of the quality; without it, it is
    0.99 or what the samples can prove. ``engine`` alone is tried instead of all. ``fresh``
    uses nothing that an earlier press to ``output`` made; ``dry_run`` only says what would be
    tried.
    """
    processing = _processing(preprocess)
    request = Request(
        samples=samples,
        task=task,
        processing=processing,
        floor=floor,
        objective=objective,
        batch=batch,
        engine=engine,
        threads=threads,
        seed=seed,
        limit=limit,
        label=label,
        rounds=rounds,
        keep_float=keep_float,
        fresh=fresh,
        open_options=_open_options(inputs, processing, checkpoint, trust, custom_ops),
        export_options=ExportOptions(exporter=exporter),
    )
    if dry_run:
        return press_plan(source, request, progress)
    return run_press(source, request, None if output is None else Path(output), progress)


def _open_options(
    inputs: Sequence[TensorSpec | str],
    preprocess: str | Processing | None,
    checkpoint: str | Path | None,
    trust: bool,
    custom_ops: str | Path | None,
) -> OpenOptions:
    path = None if checkpoint is None else Path(checkpoint)
    texts = [inputs] if isinstance(inputs, str) else inputs
    specs = [TensorSpec.parse(spec) if isinstance(spec, str) else spec for spec in texts]
    library = check_library(custom_ops)
    return OpenOptions(tuple(specs), _processing(preprocess), path, trust, library)


def _fitting(options: OpenOptions, ref: object) -> OpenOptions:
    """``options`` for one of several models: an ONNX file has its weights and inputs."""
    return replace(options, checkpoint=None, inputs=()) if str(ref).endswith(".onnx") else options


def _thing(ref: object, engine: str | None, threads: int | None, options: OpenOptions) -> Thing:
    """A bundle as the form of it that fits this machine; anything else as ``Thing.of`` says."""
    if not isinstance(ref, str | Path) or not (Path(ref) / MANIFEST).is_file():
        return Thing.of(ref, engine, threads, options)
    with predictor.open(ref, threads, options.custom_ops) as opened:
        form, manifest = opened.form, opened.manifest
    path = Path(ref) / form.file
    settings = form.settings.with_threads(threads or form.settings.threads)
    settings = settings.with_custom_ops(options.custom_ops)
    return Thing(
        f"{ref} ({form.name})",
        Artifact(path, settings),
        settings.engine,
        form.requested,
        load(path).file_bytes,
        manifest.task,
        manifest.processing,
    )


def _check_at_least_one(**flags: int | None) -> None:
    check_threads(flags.get("threads"))
    for name, value in flags.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}", "a number of at least 1")


def _processing(preprocess: str | Processing | None) -> Processing | None:
    return Processing.parse(preprocess) if isinstance(preprocess, str) else preprocess


def _model(model: str | Path | Model, custom_ops: str | Path | None) -> Model:
    opened = model if isinstance(model, Model) else load(model)
    library = check_library(custom_ops)
    if library is not None:
        opened = opened.clone()
        opened.custom_ops = library
    return opened


def _recipe(text: str, target: str) -> Recipe:
    if target not in RECIPES:
        raise InputError(f"--target {target}", f"one of {', '.join(RECIPES)}")
    recipe = Recipe.parse(text, {"default": RECIPES[target]})
    if not recipe.passes:
        raise InputError("--recipe is empty", f"'default' or passes, such as {RECIPES[target]}")
    for step in recipe.passes:
        if step.rtol is None:
            raise InputError(f"{step.name} changes what a model answers",
                             "passes that rewrite exactly", "use 'onnxpress quantize'")  # fmt: skip
    return recipe


def _bound(
    signature: Signature, samples: Samples, task: str | None, processing: Processing | None
) -> Bound:
    name = task or choose(signature, samples.kind)
    return registry.create(Task, "tasks", name).bind(signature, processing)


def _batches(
    signature: Signature,
    samples: object,
    task: str | None,
    processing: Processing | None,
    limit: int | None,
    seed: int,
    shows: Origin | Model,
) -> Callable[[], Iterable[Feeds]]:
    """Feeds to compare on: all samples, or random ones of several sizes.

    The random ones are of the kind that an origin's example or a model's graph shows.
    """
    if samples is None:
        if seed < 0:
            raise InputError(f"--seed {seed}", "a number of at least 0")
        sizes = BATCHES if signature.dynamic_batch else (rows_per_batch(signature),)
        known = domains(shows) if isinstance(shows, Model) else Domains.of(shows)
        return lambda: (known.feeds(signature, size, seed + size) for size in sizes)
    data = Samples.open(samples, limit=limit, seed=seed, signature=signature)
    if len(data) == 0:
        raise SamplesError("there are no samples", "at least one")
    bound = _bound(signature, data, task, processing)
    return sample_feeds(bound, data, signature, rows=4)
