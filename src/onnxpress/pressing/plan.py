"""What there is to try: the float model, the samples' two parts, and every engine's forms."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, Form, ModelFacts
from onnxpress.errors import InputError, SamplesError, SourceError
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.pressing.workspace import Workspace, key_of
from onnxpress.processing import Processing
from onnxpress.progress import Progress
from onnxpress.quantization import weight_counts
from onnxpress.recipe import Recipe
from onnxpress.samples import Samples
from onnxpress.signature import Signature
from onnxpress.source import ExportOptions, OpenOptions, Origin
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Task, choose
from onnxpress.verbs.convert import BATCHES, convert
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.optimize import DEFAULT_RECIPE, optimize

CALIBRATION = 128
"""The most samples that calibration gets; never more than a fifth of all."""

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
    engine: str | None = None
    threads: int | None = None
    seed: int = 0
    limit: int | None = None
    label: str | None = None
    rounds: int = 20
    keep_float: bool = False
    fresh: bool = False
    open_options: OpenOptions = field(default_factory=OpenOptions)
    export_options: ExportOptions = field(default_factory=ExportOptions)

    def __post_init__(self) -> None:
        if self.floor is not None and not self.floor <= 1:
            raise InputError(f"--floor {self.floor}", "a number of at most 1, such as 0.99")
        if self.objective not in ("latency", "throughput"):
            raise InputError(f"--objective {self.objective}", "latency or throughput")
        for name in ("batch", "threads", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}", "a number of at least 1")


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
    if request.engine is not None:
        registry.get("engines", request.engine)
    early = None if _is_random(request.samples) else _samples(request, None)
    progress("reading the model", 0, 0)
    fingerprint = origin.fingerprint()
    versions = [version(name) for name in KEYED_VERSIONS]
    key = key_of(fingerprint, versions, request.export_options)
    conversion = _float_model(origin, request, work, key, progress)
    model = load(work.path("float", key))
    signature = model.signature
    samples, note = _fitting_labels(early or _samples(request, model), signature)
    processing = _processing(request, origin, samples)
    batch = _batch(request, signature)
    task = request.task or choose(signature, samples.kind)
    kind = registry.create(Task, "tasks", task)
    bound = kind.bind(signature, processing)
    if samples.has_labels and not kind.uses_labels:
        note = f"task {task} does not use the samples' labels: quality is agreement with the origin"
    count = len(samples)
    if count < 2:
        raise SamplesError(f"there is {count} sample", "at least 2: one to calibrate, one to score")
    calibration, scoring = samples.split(max(1, min(CALIBRATION, count // 5)), request.seed)
    forms, unavailable = _forms(model, request.engine)
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
    optimized = optimize(
        converted.model,
        lambda: (random_feeds(signature, size, size, origin.example) for size in sizes),
        Recipe.parse(f"upgrade_opset,{DEFAULT_RECIPE}"),
    )
    optimized.model.save(work.path("float", key))
    story: dict[str, object] = {
        "conversion": converted.to_dict(),
        "optimization": optimized.to_dict(),
    }
    work.write("float", key, story)
    return story


def _forms(model: Model, only: str | None) -> tuple[tuple[Form, ...], dict[str, str]]:
    facts = ModelFacts(model.signature, model.op_counts(), weight_counts(list(model.ir.graph)))
    forms: list[Form] = []
    unavailable = {}
    for name in [only] if only else registry.names("engines"):
        engine = registry.create(Engine, "engines", name)
        state = engine.available()
        if state.ok:
            forms.extend(engine.forms(facts, this_machine()))
        else:
            unavailable[name] = state.reason
    if not forms:
        told = "; ".join(unavailable.values())
        found = f"engine {only} has no form to try" if only else "no engine is installed"
        raise InputError(found, "onnxruntime or openvino", told)
    return tuple(forms), unavailable


def _batch(request: Request, signature: Signature) -> int:
    """One row at a time for latency, 16 for throughput; the model's own number where it has one."""
    fixed = static_batch(signature)
    if fixed is not None and request.batch not in (None, fixed):
        raise InputError(f"--batch {request.batch}", f"{fixed}: the model takes no other")
    return fixed or request.batch or (1 if request.objective == "latency" else 16)


def _fitting_labels(samples: Samples, signature: Signature) -> tuple[Samples, str]:
    """Class folders as the model counts its classes, and a warning where they cannot be.

    As many folders as classes: in the order of their sorted names. Otherwise folders that are
    named by numbers are classes by number; any other names label nothing.
    """
    sizes = {s.shape[1] for s in signature.outputs if s.shape is not None and len(s.shape) == 2}
    counts = {size for size in sizes if isinstance(size, int)}
    if not samples.classes or not counts or len(samples.classes) in counts:
        return samples, ""
    names = samples.classes
    if all(name.isdecimal() and int(name) < max(counts) for name in names):
        return samples.relabelled([int(name) for name in names]), ""
    return samples.relabelled([None] * len(names)), (
        f"the samples have {len(names)} class folders and the model {max(counts)} classes: the "
        "labels are not used, quality is agreement with the original; name folders by class "
        "number to use them"
    )


def _processing(request: Request, origin: Origin, samples: Samples) -> Processing | None:
    """The flags first, then the origin; class names come from the samples' folders."""
    processing = request.processing or origin.processing
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
