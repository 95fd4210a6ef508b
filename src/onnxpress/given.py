"""What callers give, references, samples and options, as what verbs take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard, TypeVar

import onnx
import onnx_ir as ir

from onnxpress import predictor, registry
from onnxpress.batching import rows_per_batch
from onnxpress.bundle import MANIFEST
from onnxpress.custom_ops import check_library
from onnxpress.errors import EngineError, InputError, SamplesError
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.machine import check_threads
from onnxpress.model import Model, load
from onnxpress.processing import Processing
from onnxpress.recipe import Recipe
from onnxpress.runner import Artifact
from onnxpress.samples import Samples
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.source import OpenOptions, Origin
from onnxpress.task import Bound, Task, choose
from onnxpress.tokenizer_files import read_tokenizer
from onnxpress.verbs.convert import BATCHES
from onnxpress.verbs.domains import Domains, domains
from onnxpress.verbs.feeds import sample_feeds, seeds
from onnxpress.verbs.optimize import RECIPES
from onnxpress.verbs.sizes import running_sizes
from onnxpress.verbs.thing import Thing
from onnxpress.wishes import Wishes

Batches = Callable[[], Iterable[Feeds]]
T = TypeVar("T")


def open_options(
    inputs: Sequence[TensorSpec | str],
    preprocess: str | Processing | None,
    checkpoint: str | Path | None,
    trust: bool,
    custom_ops: str | Path | None,
) -> OpenOptions:
    """How references are opened. Raises ``InputError`` for a bad input, file or library."""
    path = None if checkpoint is None else Path(checkpoint)
    texts = [inputs] if isinstance(inputs, str) else inputs
    specs = [TensorSpec.parse(spec) if isinstance(spec, str) else spec for spec in texts]
    library = check_library(custom_ops)
    return OpenOptions(tuple(specs), processing_of(preprocess), path, trust, library)


def fitting(options: OpenOptions, ref: object) -> OpenOptions:
    """``options`` for one of several models: an ONNX file has its weights and inputs."""
    return replace(options, checkpoint=None, inputs=()) if str(ref).endswith(".onnx") else options


def thing_of(ref: object, wishes: Wishes, options: OpenOptions) -> Thing:
    """A bundle as the form of it that fits this machine; anything else as ``Thing.of`` says."""
    if not is_bundle(ref):
        return Thing.of(ref, wishes, options)
    with predictor.opened(ref, wishes, options.custom_ops) as opened:
        form, manifest = opened.form, opened.manifest
    path = Path(ref) / form.file
    settings = wishes.over(form.settings).with_custom_ops(options.custom_ops)
    return Thing(
        f"{ref} ({form.name})",
        Artifact(path, settings),
        settings.engine,
        form.requested,
        load(path).file_bytes,
        manifest.task,
        manifest.processing,
    )


def is_bundle(ref: object) -> TypeGuard[str | Path]:
    """Whether ``ref`` is the folder of a bundle."""
    return isinstance(ref, str | Path) and (Path(ref) / MANIFEST).is_file()


def check_at_least_one(**flags: int | None) -> None:
    """Raises ``InputError`` that names the first flag below 1, or more threads than there are."""
    check_threads(flags.get("threads"))
    for name, value in flags.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}", "a number of at least 1")


def check_measuring(rounds: int, seconds: float | None, min_quality: float | None) -> None:
    """Raises ``InputError`` that names the flag of ``bench`` that no measurement can use."""
    check_at_least_one(rounds=rounds)
    if rounds < MIN_ROUNDS:
        raise InputError(f"--rounds {rounds}", f"at least {MIN_ROUNDS}: fewer prove nothing")
    if seconds is not None and not 0 < seconds < math.inf:
        raise InputError(f"--seconds {seconds:g}", "a number above 0")
    if min_quality is not None and not -math.inf < min_quality <= 1:
        raise InputError(f"--min-quality {min_quality}", "a number of at most 1, such as 0.99")


def processing_of(
    preprocess: str | Processing | None,
    tokenizer: str | Path | None = None,
    samples: object = None,
) -> Processing | None:
    """``size=224,mean=…`` for images, or the folder of a tokenizer for samples that are texts.

    Raises ``InputError`` for what it does not know, and for a tokenizer that nothing would use.
    """
    if tokenizer is None:
        return Processing.parse(preprocess) if isinstance(preprocess, str) else preprocess
    if preprocess is not None:
        raise InputError(
            "--preprocess and --tokenizer",
            "one of them: the first prepares images, the second texts",
            "leave out the other",
        )
    if samples is None:
        raise InputError(
            f"--tokenizer {tokenizer} without --samples", "texts", "give --samples texts.txt"
        )
    return Processing(text=read_tokenizer(Path(tokenizer)))


def model_of(model: object, custom_ops: str | Path | None) -> Model:
    """The model, that of the file or an ``onnx.ModelProto``, with its library of operators.

    Raises ``ModelError`` for what is no ONNX, ``InputError`` for anything else.
    """
    if isinstance(model, Model):
        opened = model
    elif isinstance(model, str | Path):
        opened = load(model)
    elif isinstance(model, onnx.ModelProto):
        opened = Model(ir.from_proto(model))
    else:
        raise InputError(
            f"a model of type {type(model).__name__}",
            "an ONNX file, a Model or an onnx.ModelProto",
            "onnxpress.convert makes one of a model of another framework",
        )
    library = check_library(custom_ops)
    if library is not None:
        opened = opened.clone()
        opened.custom_ops = library
    return opened


def recipe_of(text: str, target: str) -> Recipe:
    """Passes that keep the answers. Raises ``PluginError`` or ``InputError`` for any others."""
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


def bound_of(
    signature: Signature,
    samples: Samples,
    task: str | None,
    processing: Processing | None,
    own: Processing | None = None,
) -> Bound:
    """What the tensors mean, by ``task`` or as they look; ``own`` is where no flag says how.

    Raises ``InputError``.
    """
    known = own if processing is None else processing.fitting(samples.kind, signature)
    name = task or choose(signature, samples.kind)
    return registry.create(Task, "tasks", name).bind(signature, known)


@dataclass(frozen=True)
class RandomFeeds:
    """Feeds of ``drawn`` rows and seeds; free dimensions have each of ``sizes`` in turn."""

    signature: Signature
    domains: Domains
    drawn: tuple[tuple[int, int], ...]
    model: Model | None
    sizes: tuple[Mapping[str, int], ...] = ({},)

    def __call__(self) -> Iterator[Feeds]:
        for rows, seed in self.drawn:
            for sizes in self.sizes:
                yield self.domains.feeds(self.signature, rows, seed, sizes)

    def with_sizes_that_run(self) -> RandomFeeds | None:
        """Feeds that ONNX Runtime runs the model on; None where none were found."""
        if self.model is None:
            return None
        rows, seed = self.drawn[-1]
        try:
            found = running_sizes(
                self.model, lambda sizes: self.domains.feeds(self.signature, rows, seed, sizes)
            )
        except EngineError:  # it cannot even be opened: the caller's own error tells it
            return None
        return replace(self, sizes=tuple(found)) if found else None


def on(batches: Batches, work: Callable[[Batches], T]) -> T:
    """``work`` on ``batches``. Random ones that the model does not run are drawn in other sizes."""
    try:
        return work(batches)
    except EngineError:
        others = batches.with_sizes_that_run() if isinstance(batches, RandomFeeds) else None
        if others is None:
            raise
        return work(others)


def batches_of(
    signature: Signature,
    samples: object,
    task: str | None,
    processing: Processing | None,
    limit: int | None,
    seed: int,
    shows: Origin | Model,
    *,
    own: Processing | None = None,
) -> Batches:
    """Feeds to compare on: all samples, or random ones of several sizes.

    ``processing`` is what flags ask for, ``own`` what a model itself knows where none does.
    The random ones are of the kind that an origin's example or a model's graph shows.
    """
    if samples is None:
        if seed < 0:
            raise InputError(f"--seed {seed}", "a number of at least 0")
        sizes = BATCHES if signature.dynamic_batch else (rows_per_batch(signature),)
        known = domains(shows) if isinstance(shows, Model) else Domains.of(shows)
        drawn = tuple(seeds(signature, sizes, seed))
        return RandomFeeds(signature, known, drawn, shows if isinstance(shows, Model) else None)
    data = Samples.open(samples, limit=limit, seed=seed, signature=signature)
    if len(data) == 0:
        raise SamplesError("there are no samples", "at least one")
    bound = bound_of(signature, data, task, processing, own)
    return sample_feeds(bound, data, signature, rows=4)
