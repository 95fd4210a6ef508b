"""A sweep: the batches, and lengths of texts, that models are timed at, and the feeds of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnxpress.errors import InputError, SamplesError
from onnxpress.pipeline import feeds_of
from onnxpress.samples import Samples
from onnxpress.signature import Feeds
from onnxpress.task import Bound, Ready
from onnxpress.verbs.feeds import COPIES, check_memory


@dataclass(frozen=True)
class Point:
    """``batch`` records at once, each of ``length`` tokens; None leaves texts as they are."""

    batch: int
    length: int | None = None

    @property
    def work(self) -> int:
        """What latency and memory grow with."""
        return self.batch * (self.length or 1)

    def __str__(self) -> str:
        tokens = "" if self.length is None else f" of {self.length} tokens"
        return f"batch {self.batch}{tokens}"


@dataclass(frozen=True)
class Sweep:
    """``batches`` and ``lengths`` that were asked for; a size that is given twice counts once.

    Raises ``InputError`` for a size below 1.
    """

    batches: Sequence[int] = ()
    lengths: Sequence[int] = ()

    def __post_init__(self) -> None:
        for flag, sizes in (("batch", self.batches), ("length", self.lengths)):
            for size in sizes:
                if size < 1:
                    raise InputError(f"--{flag} {size}", "a number of at least 1")

    def points(self, fixed: int | None) -> list[Point]:
        """Each batch with each length, in the order given; without one, ``fixed`` or 1.

        Raises ``InputError`` for another batch than ``fixed``, where the models take no other.
        """
        for batch in self.batches:
            if fixed not in (None, batch):
                raise InputError(f"--batch {batch}", f"{fixed}: the model takes no other")
        taken: Sequence[int | None] = self.lengths or [None]
        every = itertools.product(self.batches or [fixed or 1], taken)
        return list(dict.fromkeys(Point(batch, length) for batch, length in every))


@dataclass
class Work:
    """The feeds of each point, made of ``samples`` for the models that ``bound`` knows.

    ``row_bytes`` is what the outputs of one record take, where that is known, ``fixed`` the only
    batch that the models take.
    """

    bound: Bound
    samples: Samples
    fixed: int | None = None
    row_bytes: int = 0

    def feeds(self, point: Point) -> Feeds:
        """The first samples, again from the first one where they do not fill the batch."""
        ready = self._prepared(point)
        return self.bound.encoder.stack(list(itertools.islice(itertools.cycle(ready), point.batch)))

    def records(self, point: Point) -> Feeds:
        """The same samples as a pipeline takes them; texts as they are, whatever the length."""
        there = itertools.islice(self.samples, point.batch)
        return feeds_of(list(itertools.islice(itertools.cycle(list(there)), point.batch)))

    def note(self, point: Point) -> str:
        """That samples are repeated; empty where they are not."""
        there = len(self.samples)
        if there >= point.batch:
            return ""
        return f"a batch of {point.batch} repeats the {there} samples that there are"

    def check(self, points: Iterable[Point]) -> None:
        """Raise ``InputError`` where a point's feeds and outputs alone do not fit into memory.

        Lengths that the model does not take, and samples that are no texts, are refused too.
        """
        for point in sorted(points, key=lambda point: point.work):
            few = Point(self.fixed or 1, point.length)
            row = sum(array.nbytes for array in self.feeds(few).values()) // few.batch
            check_memory(str(point), point.batch * (COPIES * row + self.row_bytes))

    def _prepared(self, point: Point) -> list[Ready]:
        """As many records as the point takes of those that there are, without stacking them."""
        records = list(itertools.islice(self.samples, point.batch))
        encoder = self.bound.encoder
        if point.length is None:
            return encoder.prepare(records)
        ready = encoder.sized(records, point.length)
        if not ready:
            ready = encoder.sized(list(self.samples), point.length)
        if not ready:
            raise SamplesError("the texts have no tokens", "texts that a length can be made of")
        return ready
