"""One ONNX file that is to be run: a file, a bundle's form or a live model, with what it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.custom_ops import check_library
from onnxpress.engine import Engine, ModelFacts
from onnxpress.errors import InputError
from onnxpress.given import Batches, RandomFeeds, bound_of, is_bundle, model_of, thing_of
from onnxpress.machine import this_machine
from onnxpress.model import Model
from onnxpress.processing import Processing
from onnxpress.runner import Artifact
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Signature
from onnxpress.source import OpenOptions
from onnxpress.stacking import static_batch
from onnxpress.task import Bound
from onnxpress.verbs.domains import domains
from onnxpress.verbs.feeds import COPIES, check_memory, first_feeds
from onnxpress.wishes import Wishes

CONVERT = "make one with 'onnxpress convert'"


@dataclass(frozen=True)
class Runnable:
    """An ONNX file, what it holds and how it runs; a bundle's form has a task and a processing."""

    artifact: Artifact
    model: Model
    task: str | None = None
    processing: Processing | None = None

    def bound(self, samples: Samples, task: str | None, processing: Processing | None) -> Bound:
        """What its tensors mean, by the flags or by the bundle."""
        signature = self.model.signature
        return bound_of(signature, samples, task or self.task, processing, self.processing)

    def rows(self, asked: int | None, usual: int = 1) -> int:
        """Records of a call: the model's own number where it is fixed to one, as asked, ``usual``.

        Raises ``InputError`` where the model takes another number.
        """
        fixed = static_batch(self.model.signature)
        if fixed is not None and asked not in (None, fixed):
            raise InputError(f"--batch {asked}", f"{fixed}: the model takes no other")
        return fixed or asked or usual

    def other_engines(self, first: Settings) -> list[Settings]:
        """What every other engine than that of ``first`` begins with, if it runs the model here."""
        found = []
        for name in registry.names("engines"):
            engine = registry.create(Engine, "engines", name)
            if name == first.engine or not engine.available().ok:
                continue
            facts = ModelFacts(self.model.signature, self.model.op_counts(), {})
            if engine.forms(facts, this_machine()) and (
                engine.runs_custom_ops or not self.model.custom_operators
            ):
                found.append(Settings(name, threads=first.threads, custom_ops=first.custom_ops))
        return found


def runnable_of(
    ref: object, wishes: Wishes, custom_ops: str | Path | None, folder: Path
) -> Runnable:
    """An ONNX file, a bundle's form that fits this machine, or a model, written to ``folder``.

    Raises ``InputError`` for anything else, ``BundleError`` for a bundle that does not fit.
    """
    if is_bundle(ref):
        thing = thing_of(ref, wishes, OpenOptions(custom_ops=check_library(custom_ops)))
        assert isinstance(thing.target, Artifact)
        opened = model_of(thing.target.path, custom_ops)
        return Runnable(thing.target, opened, thing.task, thing.processing)
    if isinstance(ref, str | Path) and Path(ref).is_dir():
        raise InputError(f"{ref} is a folder", "an ONNX file or a bundle")
    if isinstance(ref, str) and ":" in ref and not Path(ref).exists():
        raise InputError(f"{ref} is no ONNX file", "an ONNX file or a bundle", CONVERT)
    opened = model_of(ref, custom_ops)
    path = Path(ref) if isinstance(ref, str | Path) else opened.clone().save(folder / "model.onnx")
    return Runnable(Artifact(path, wishes.settings.with_custom_ops(opened.custom_ops)), opened)


def samples_of(
    signature: Signature, samples: object, limit: int | None, seed: int
) -> tuple[Samples, str]:
    """The samples as ``signature`` takes them, and what to know of that."""
    opened = Samples.open(samples, limit=limit, seed=seed, signature=signature)
    data, note = opened.fitting(signature)
    return data, note or ""


def one_batch(
    thing: Runnable,
    samples: object,
    batch: int | None,
    task: str | None,
    processing: Processing | None,
    limit: int | None,
    seed: int,
) -> Batches:
    """Feeds of the first ``batch`` samples (1, or what the model is fixed to), or random ones."""
    signature, rows = thing.model.signature, thing.rows(batch)
    if samples is None:
        if seed < 0:
            raise InputError(f"--seed {seed}", "a number of at least 0")
        known = domains(thing.model)
        if static_batch(signature) is None:
            row = sum(array.nbytes for array in known.feeds(signature, 1, seed).values())
            check_memory(f"--batch {rows}", COPIES * rows * row)
        return RandomFeeds(signature, known, ((rows, seed),), thing.model)
    data, _ = samples_of(signature, samples, limit, seed)
    feeds = first_feeds(thing.bound(data, task, processing), data, signature, rows)
    return lambda: [feeds]
