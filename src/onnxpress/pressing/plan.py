"""What there is to try: the float model, the samples' two parts, and every engine's forms."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxpress import registry
from onnxpress.custom_ops import sha256
from onnxpress.engine import Engine, Form, ModelFacts
from onnxpress.errors import InputError, SamplesError, SourceError
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.pressing.workspace import Workspace, key_of
from onnxpress.processing import Processing
from onnxpress.progress import Progress
from onnxpress.quantization import weight_counts
from onnxpress.recipe import Recipe
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.source import ExportOptions, OpenOptions, Origin
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Task, choose, unused_labels
from onnxpress.verbs.convert import BATCHES, convert, prove
from onnxpress.verbs.domains import Domains, domains
from onnxpress.verbs.feeds import random_feeds, seeds
from onnxpress.verbs.optimize import DEFAULT_RECIPE, optimize
from onnxpress.verbs.trials import check_search
from onnxpress.wishes import Wishes

KEYED_VERSIONS = ("onnxpress", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Request:
    """What the user asked of a press; see ``press``."""

    samples: object
    task: str | None = None
    processing: Processing | None = None
    floor: float | None = None
    objective: str = "latency"
    batch: int | None = None
    wishes: Wishes = field(default_factory=Wishes)
    seed: int = 0
    limit: int | None = None
    label: str | None = None
    rounds: int = 20
    keep_float: bool = False
    fresh: bool = False
    tune: bool = False
    budget_s: float = 60.0
    open_options: OpenOptions = field(default_factory=OpenOptions)
    export_options: ExportOptions = field(default_factory=ExportOptions)

    def __post_init__(self) -> None:
        if self.floor is not None and not self.floor <= 1:
            raise InputError(f"--floor {self.floor}", "a number of at most 1, such as 0.99")
        check_search(self.objective, self.budget_s)
        for name in ("batch", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}", "a number of at least 1")
        if self.rounds < MIN_ROUNDS:
            raise InputError(
                f"--rounds {self.rounds}", f"at least {MIN_ROUNDS}: fewer prove nothing"
            )


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before anything is measured; ``batch`` is for timing."""

    float_path: Path
    float_key: str
    model: Model
    conversion: Mapping[str, object]
    bound: Bound
    task: str
    processing: Processing | None
    calibration: Samples
    scoring: Samples
    samples: Samples
    forms: tuple[Form, ...]
    fingerprint: str
    unavailable: Mapping[str, str]
    batch: int
    notes: tuple[str, ...] = ()


def plan(origin: Origin, request: Request, work: Workspace, progress: Progress) -> Plan:
    """Convert and optimise (or find it done), open and split the samples, ask the engines.

    Raises ``OnnxpressError`` where any of it does not fit together.
    """
    if request.task is not None:
        registry.get("tasks", request.task)  # an unknown name is said before any work
    early = None if _is_random(request.samples) else _samples(request, None)
    progress("reading the model", 0, 0)
    fingerprint = origin.fingerprint()
    if request.fresh:
        work.clear()
    versions = [version(name) for name in KEYED_VERSIONS]
    if origin.custom_ops is not None:
        versions.append(sha256(origin.custom_ops))
    key = _float_key(origin, work, fingerprint, versions, request.export_options)
    conversion = _float_model(origin, request, work, key, progress)
    model = load(work.path("float", key), origin.custom_ops)
    signature = model.signature
    opened = early or _samples(request, model)
    samples, note = opened.fitting(signature)
    processing = _processing(request, origin, samples, signature)
    batch = _batch(request, signature)
    task = request.task or choose(signature, samples.kind)
    bound = registry.create(Task, "tasks", task).bind(signature, processing)
    note = unused_labels(task, labelled=opened.has_labels) or note
    count = len(samples)
    if count < 2:
        raise SamplesError(f"there is {count} sample", "at least 2: one to calibrate, one to score")
    calibration, scoring = samples.split(bound.calibrating(count), request.seed)
    forms, unavailable = _forms(model, request)
    return Plan(
        float_path=work.path("float", key),
        float_key=key,
        model=model,
        conversion=conversion,
        bound=bound,
        task=task,
        processing=processing,
        calibration=calibration,
        scoring=scoring,
        samples=samples,
        forms=forms,
        fingerprint=fingerprint,
        unavailable=unavailable,
        batch=batch,
        notes=(note,) if note else (),
    )


def _float_key(origin: Origin, work: Workspace, *parts: object) -> str:
    """The key of a kept model that still answers as the origin does, or a new one.

    A fingerprint may miss what decides the outputs, such as code that the user's file imports.
    """
    example = [(name, array.dtype, array.shape) for name, array in (origin.example or {}).items()]
    for attempt in itertools.count():
        key = key_of(*parts, example, attempt)
        path = work.path("float", key)
        if work.read("float", key) is None or not path.is_file() or origin.exact_fingerprint:
            return key
        model = load(path, origin.custom_ops)
        if prove(origin, model, lambda signature: _one_batch(signature, origin)).ok:
            return key
    raise AssertionError("counting never ends")


def _one_batch(signature: Signature, origin: Origin) -> Iterable[Feeds]:
    size = static_batch(signature) or 2
    yield random_feeds(signature, size, seed=size, example=origin.example, drawn=origin.drawn)


def _float_model(
    origin: Origin, request: Request, work: Workspace, key: str, progress: Progress
) -> Mapping[str, object]:
    """The converted and optimised model's story; the model itself is in the workspace."""
    known = work.read("float", key)
    if known is not None and work.path("float", key).is_file():
        return known
    progress("converting to ONNX", 0, 0)
    converted = convert(origin, request.export_options)
    verified = converted.verified
    if verified is not None and not verified.ok:
        raise SourceError(
            f"the converted model differs from the original: {verified.first_mismatch}",
            f"|a - b| <= {verified.atol:.3g} + {verified.rtol:g}·|a|",
            "try --exporter torchscript or another --opset with 'onnxpress convert'",
        )
    progress("optimising the graph", 0, 0)
    signature = converted.model.signature
    sizes = BATCHES[:2] if signature.dynamic_batch else (1,)
    domain = Domains.of(origin) if origin.example else domains(converted.model)
    optimized = optimize(
        converted.model,
        lambda: (domain.feeds(signature, *each) for each in seeds(signature, sizes)),
        Recipe.parse(f"upgrade_opset,{DEFAULT_RECIPE}"),
    )
    optimized.model.save(work.path("float", key))
    story: dict[str, object] = {
        "conversion": converted.to_dict(),
        "optimization": optimized.to_dict(),
    }
    work.write("float", key, story)
    return story


def _forms(model: Model, request: Request) -> tuple[tuple[Form, ...], dict[str, str]]:
    """Those of the engines that are here, as they are run; why the other engines are not."""
    only = request.wishes.engine
    facts = ModelFacts(model.signature, model.op_counts(), weight_counts(list(model.ir.graph)))
    forms: list[Form] = []
    unavailable, operators = {}, model.custom_operators
    for name in [only] if only else registry.names("engines"):
        engine = registry.create(Engine, "engines", name)
        state = engine.available()
        if not state.ok:
            unavailable[name] = state.reason
            continue
        offered = engine.forms(facts, this_machine())
        if offered and operators and not engine.runs_custom_ops:
            unavailable[name] = f"it has no operator {operators[0]}"
        else:
            forms += [replace(form, settings=_settings(form, request)) for form in offered]
    if not forms:
        told = "; ".join(unavailable.values())
        found = f"engine {only} has no form to try" if only else "no engine is installed"
        raise InputError(found, "onnxruntime or openvino", told)
    return tuple(forms), unavailable


def _settings(form: Form, request: Request) -> Settings:
    """The form's own, with what the user asked for, or this machine's threads."""
    settings = request.wishes.over(form.settings)
    settings = settings.with_threads(settings.threads or this_machine().threads)
    return settings.with_custom_ops(request.open_options.custom_ops)


def _batch(request: Request, signature: Signature) -> int:
    """One row at a time for latency, 16 for throughput; the model's own number where it has one."""
    fixed = static_batch(signature)
    if fixed is not None and request.batch not in (None, fixed):
        raise InputError(f"--batch {request.batch}", f"{fixed}: the model takes no other")
    return fixed or request.batch or (1 if request.objective == "latency" else 16)


def _processing(
    request: Request, origin: Origin, samples: Samples, signature: Signature
) -> Processing | None:
    """The flags first, then the origin; class and column names come from the samples."""
    given = request.processing
    processing = given.fitting(samples.kind, signature) if given else origin.processing
    if samples.kind == "rows" and not (processing and processing.columns):
        row = next(iter(samples)).value
        if isinstance(row, Mapping):
            processing = replace(processing or Processing(), columns=tuple(map(str, row)))
    if processing is not None and samples.classes and not processing.labels:
        return processing.with_labels(samples.classes)
    return processing


def _is_random(samples: object) -> bool:
    return isinstance(samples, str) and samples.startswith("random:")


def _samples(request: Request, model: Model | None) -> Samples:
    signature = None if model is None else model.signature
    return Samples.open(
        request.samples,
        label=request.label,
        limit=request.limit,
        seed=request.seed,
        signature=signature,
    )


def version(package: str) -> str:
    """The installed version, empty where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
