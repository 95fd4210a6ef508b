"""Runs candidates and the origin on the same samples and scores what they answer."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from onnxpress.batching import chunks, pad, rows_per_batch, trim
from onnxpress.errors import OnnxpressError, SamplesError
from onnxpress.progress import Progress, silent
from onnxpress.runner import Runner
from onnxpress.samples import Label, Samples
from onnxpress.signature import Feeds
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Quality, Scored

RANDOM = "quality was measured on random inputs: it says little about real ones"
"""What every result says that leans on made-up samples."""


Watch = Callable[[str, Feeds, Feeds], None]
"""Is shown each batch of a runner's outputs: its name, what it answers, what the reference does."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Batch after batch, on disk: a runner's outputs or the labels. Memory holds one batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)

    def add(self, batch: T) -> None:
        with self._path.open("ab") as file:
            pickle.dump(batch, file, protocol=5)

    def __iter__(self) -> Iterator[T]:
        with self._path.open("rb") as file:
            while file.peek(1):
                yield pickle.load(file)  # written by ``add`` a moment ago


def score(
    runners: Mapping[str, Runner],
    reference: str,
    bound: Bound,
    samples: Samples,
    folder: Path,
    rows: int,
    progress: Progress = silent,
    *,
    watch: Watch | None = None,
) -> tuple[dict[str, Quality], dict[str, str]]:
    """The quality of every runner, and the reason for each one that failed.

    Each record is prepared once and goes through all runners, so ``samples`` is read once;
    answers are kept in ``folder``. Raises ``SamplesError`` where there are no samples, and what
    the ``reference`` runner raises, since nothing can be scored without it.
    """
    answers = {name: Kept[Feeds](folder / f"{i}.answers") for i, name in enumerate(runners)}
    labels = Kept[list[Label | None]](folder / "labels")
    failures: dict[str, str] = {}
    broken = _NotANumber()
    done = 0
    signatures = [runners[reference].signature, *(r.signature for r in runners.values())]
    # An origin takes any batch, but what was exported from it may be fixed to one.
    signature = next((s for s in signatures if static_batch(s) is not None), signatures[0])
    size = rows_per_batch(signature, rows)
    for records in chunks(samples, size):
        padded = pad(records, size, signature)
        feeds = bound.encode(padded)
        expected: Feeds = {}
        for name, runner in {reference: runners[reference], **runners}.items():
            if name in failures:
                continue
            try:
                outputs = trim(runner.run(feeds), len(records), len(padded))
            except OnnxpressError as error:
                if name == reference:
                    raise
                failures[name] = str(error)
                continue
            if name == reference:
                expected = outputs
                broken.add(outputs)
            if watch is not None:
                watch(name, outputs, expected)
            answers[name].add(bound.condensed(outputs, feeds))
        labels.add([bound.truth(record) for record in records])
        done += len(records)
        progress("scoring", done, len(samples))
    if not done:
        raise SamplesError("there are no samples to score on", "at least one")
    note = broken.note()
    qualities = {
        name: bound.score(_scored(answers[name], answers[reference], labels))
        for name in runners
        if name not in failures
    }
    if note:
        qualities = {
            name: replace(quality, metric=quality.metric + note)
            for name, quality in qualities.items()
        }
    return qualities, failures


class _NotANumber:
    """Counts the NaN of the original's outputs over all samples: there nothing can agree."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, outputs: Feeds) -> None:
        for name, array in outputs.items():
            if array.dtype.kind == "f":
                nan, size = self._counts.get(name, (0, 0))
                self._counts[name] = nan + int(np.isnan(array).sum()), size + array.size

    def note(self) -> str:
        """What share is NaN; empty for none. Raises ``SamplesError`` where an output is all NaN."""
        for name, (nan, size) in self._counts.items():
            if size and nan == size:
                raise SamplesError(
                    f"the original's output '{name}' is NaN for these samples",
                    "samples that it has answers for, or a model that is not broken",
                )
        shares = {name: nan / size for name, (nan, size) in self._counts.items() if nan}
        told = (f"{share:.2g} of '{name}'" for name, share in shares.items())
        return f"; not compared where the origin gives NaN: {', '.join(told)}" if shares else ""


def _scored(
    candidate: Kept[Feeds], reference: Kept[Feeds], labels: Kept[list[Label | None]]
) -> Iterator[Scored]:
    for outputs, expected, names in zip(candidate, reference, labels, strict=True):
        yield Scored(outputs, expected, names)
