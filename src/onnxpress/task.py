"""The contract of what tensors mean: a Task binds to a model and encodes, decodes and scores."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from onnxpress import registry
from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Feeds, Signature

Prediction = dict[str, object]
"""One decoded result, JSON-able."""


@dataclass(frozen=True)
class Scored:
    """One batch to score: a candidate's outputs, the origin's on the same feeds, and labels.

    The labels are what ``Bound.truth`` made of them.
    """

    outputs: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    labels: Sequence[Label | None]


@dataclass(frozen=True)
class Quality:
    """How much of the origin's quality is kept: the origin itself has 1.

    ``low`` is the lower end of the 95 % interval of ``value`` over ``n`` samples; ``metric`` says
    what was compared. ``origin`` and ``candidate`` are the task's own metric on the labels, where
    there are any.
    """

    value: float
    low: float
    n: int
    metric: str
    origin: float | None = None
    candidate: float | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Ready:
    """A record whose own part of encoding is done, as ``value``; ``tokens`` counts a text's."""

    record: Record
    value: Any
    tokens: int | None = None


class Encoder(abc.ABC):
    """How records become feeds: each by itself first, also ahead of its turn, then as a batch.

    Both may be called from any thread.
    """

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        """What can be done before a batch is known. Raises ``SamplesError`` naming the record."""
        return [Ready(record, record.value) for record in records]

    def sized(self, records: Sequence[Record], length: int) -> list[Ready]:
        """Texts as ``length`` tokens each, repeated or cut; those without any are left out.

        Raises ``InputError`` where records are no texts, or the model takes no such length.
        """
        raise InputError(f"--length {length} for samples that are no texts", "texts, a line each")

    @abc.abstractmethod
    def stack(self, ready: Sequence[Ready]) -> Feeds:
        """One batch of feeds. Raises ``SamplesError`` naming the record."""

    def encode(self, records: Sequence[Record]) -> Feeds:
        """Records stacked to one batch of feeds. Raises ``SamplesError`` naming the record."""
        return self.stack(self.prepare(records))


CALIBRATION, FEW = 128, 64
"""The most samples that calibrate, and how many would be good where few are given."""
DEFAULT_FLOOR = 0.99
"""Less quality is told, or refused, where no floor is asked for; calibration leaves samples enough
to prove it."""


class Bound(abc.ABC):
    """A task bound to one model: every preprocessing of the product goes through ``encoder``."""

    encoder: Encoder
    pictures: ClassVar[bool] = False
    """Whether ``rows`` are images or masks that can be saved: (h, w), (h, w, 1) or (h, w, 3)."""

    def encode(self, records: Sequence[Record]) -> Feeds:
        """Records stacked to one batch of feeds. Raises ``SamplesError`` naming the record."""
        return self.encoder.encode(records)

    def truth(self, record: Record) -> Label | None:
        """What ``score`` gets as the record's label: the label itself unless it must be prepared.

        Such as a mask, which is read from its file here and scaled as the image is. Raises
        ``SamplesError`` naming the record.
        """
        return record.label

    @abc.abstractmethod
    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """One prediction per row of the outputs, which the model made of ``records``."""

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """What a caller in Python gets for each row; as ``decode`` unless arrays serve better."""
        return list(self.decode(outputs, records))

    def told(self, row: object) -> object:
        """One of ``rows`` as ``--json`` and people get it: itself unless that would be too much."""
        return row

    def gather(self, rows: list[object]) -> object:
        """What a caller in Python gets for all rows together: a list unless an array serves."""
        return rows

    def condensed(self, outputs: Feeds, feeds: Feeds) -> Feeds:
        """What ``score`` needs of the outputs for ``feeds``, which goes to disk until then.

        Such as the class of each pixel, or all but padding. ``score`` takes the outputs
        themselves as well.
        """
        return outputs

    @abc.abstractmethod
    def score(self, batches: Iterable[Scored]) -> Quality:
        """Quality over all batches, read once and in order, in memory that does not grow with them.

        Raises ``SamplesError`` where there are too few samples for the metric to mean anything.
        """

    @abc.abstractmethod
    def needed(self, floor: float) -> int | None:
        """The fewest samples with which a perfect candidate could prove ``floor``, or None."""

    def provable(self, n: int) -> float:
        """The highest floor that a perfect candidate could prove with ``n`` samples."""
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            needed = self.needed(middle)
            low, high = (middle, high) if needed is not None and needed <= n else (low, middle)
        return low

    def calibrating(self, count: int) -> int:
        """How many of ``count`` samples calibrate: a fifth, or 64 where the proof leaves them.

        Never more than half, nor than 128.
        """
        needed = self.needed(DEFAULT_FLOOR)
        spare = 0 if needed is None else count - needed
        return max(1, min(CALIBRATION, max(count // 5, min(FEW, count // 2, spare))))


class Task(abc.ABC):
    """What a model is for."""

    api_version: ClassVar[int] = 1
    uses_labels: ClassVar[bool] = True
    """Whether labels of the samples, where there are some, make its quality."""

    @abc.abstractmethod
    def fits(self, signature: Signature, kind: str) -> bool:
        """Whether this is the natural task for samples of ``kind`` (``images``, ``tensors``, …)."""

    @abc.abstractmethod
    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        """Raises ``InputError`` naming the missing flag where ``processing`` does not suffice."""


def choose(signature: Signature, kind: str) -> str:
    """The natural task for samples of ``kind``: the first by name that fits, ``tensor`` last.

    Raises ``InputError`` naming ``--task`` where none fits, such as for images and a model that
    does not look like any image task.
    """
    known = registry.names("tasks")
    for name in sorted(known, key=lambda name: (name == "tensor", name)):
        if registry.create(Task, "tasks", name).fits(signature, kind):
            return name
    outputs = ", ".join(map(str, signature.outputs))
    raise InputError(
        f"no task fits samples of {kind} and a model from "
        f"{', '.join(map(str, signature.inputs))} to {outputs}",
        f"--task with one of {', '.join(known)}",
    )


def unused_labels(task: str, *, labelled: bool) -> str:
    """What to tell where samples have labels that ``task`` has no use for; otherwise nothing."""
    if not labelled or registry.create(Task, "tasks", task).uses_labels:
        return ""
    return f"task {task} does not use the samples' labels: quality is agreement with the origin"
