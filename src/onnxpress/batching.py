"""Records into batches that a model takes, and their predictions: in order, in constant memory.

Texts come in windows: a window is sorted by length and cut into batches of so many tokens, padding
included, so that little is padded. Everything else comes in batches of so many rows. While one
window runs the next one is prepared on other threads: tokenised, decoded, scaled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from onnxpress.engine import Session
from onnxpress.machine import this_machine
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature
from onnxpress.task import Bound, Ready

T = TypeVar("T")

ROWS = 16
"""Rows of a batch where nothing else decides."""
TOKENS = 512
"""Tokens of a batch of texts, padding included: see docs/performance.md."""
WINDOW = 4096
"""Texts that are sorted by length together."""
GROWTH = 4
"""A window over the one before: the first prediction of many texts waits for few of them."""
SLICE = 256
"""Texts that one thread tokenises at once."""


@dataclass(frozen=True)
class Budget:
    """What a batch may hold: ``rows``, or ``tokens`` where records are texts.

    ``flights`` is how many batches run at once.
    """

    rows: int = ROWS
    tokens: int = TOKENS
    flights: int = 1


def rows_per_batch(signature: Signature, rows: int = ROWS) -> int:
    """``rows`` where the batch is free, otherwise the batch size that the model is fixed to."""
    if signature.dynamic_batch:
        return max(1, rows)
    fixed = [spec.shape[0] for spec in signature.inputs if spec.shape]
    return next((dim for dim in fixed if isinstance(dim, int)), 1)


def chunks(items: Iterable[T], rows: int) -> Iterator[list[T]]:
    """Lists of ``rows`` items, the last one shorter; reads only what it yields."""
    iterator = iter(items)
    while chunk := list(islice(iterator, rows)):
        yield chunk


def pad(items: list[T], rows: int, signature: Signature) -> list[T]:
    """``items`` with the last one repeated up to ``rows`` where the batch size is fixed."""
    if signature.dynamic_batch or len(items) >= rows:
        return items
    return items + [items[-1]] * (rows - len(items))


def trim(outputs: Feeds, rows: int, padded: int) -> Feeds:
    """The first ``rows`` rows of outputs that were computed for ``padded`` rows."""
    if rows == padded:
        return outputs
    return {
        name: array[:rows] if np.ndim(array) and len(array) == padded else array
        for name, array in outputs.items()
    }


def cut(lengths: Sequence[int], tokens: int, rows: int | None = None) -> list[list[int]]:
    """The places of ``lengths`` in batches of at most ``tokens`` each, the longest first.

    A batch counts its rows times its longest; one of more than ``tokens`` is alone. ``rows`` is
    how many a batch has where the model is fixed to it.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    batches: list[list[int]] = []
    while order:
        most = rows or max(1, tokens // max(1, lengths[order[0]]))
        batches.append(order[:most])
        del order[:most]
    return batches


def predictions(
    bound: Bound, session: Session, signature: Signature, records: Iterable[Record], budget: Budget
) -> Iterator[object]:
    """One prediction per record, in order, as ``bound.rows`` has them.

    Reads one window ahead of the one that it yields, but none ahead of the first. Raises
    ``SamplesError`` naming a bad record, after the predictions of the windows before.
    """
    source, rows = iter(records), rows_per_batch(signature, budget.rows)
    batches = _Batches(bound, session, signature, rows, budget)
    first = list(islice(source, rows))
    yield from batches.predictions(bound.encoder.prepare(first))
    if len(first) < rows:  # few records need no threads
        return
    with ThreadPoolExecutor(this_machine().threads, "onnxpress-prepare") as pool:
        ahead, size = _Ahead(bound, pool, source), rows
        following = ahead.window(size)
        while ready := following.ready():
            size = min(WINDOW, GROWTH * size) if batches.of_texts(ready) else rows
            following = ahead.window(size)
            yield from batches.predictions(ready)


class _Window:
    """Records that other threads prepare, a slice each."""

    def __init__(self, slices: Sequence[Future[list[Ready]]]) -> None:
        self._slices = slices

    def ready(self) -> list[Ready]:
        return [one for part in self._slices for one in part.result()]


@dataclass(frozen=True)
class _Ahead:
    """Reads records ahead of their turn."""

    bound: Bound
    pool: ThreadPoolExecutor
    records: Iterator[Record]

    def window(self, size: int) -> _Window:
        """The next ``size`` records; they are read here and now."""
        read = list(islice(self.records, size))
        each = max(1, min(SLICE, -(-len(read) // this_machine().threads)))
        return _Window(
            [self.pool.submit(self.bound.encoder.prepare, c) for c in chunks(read, each)]
        )


@dataclass(frozen=True)
class _Batches:
    """Cuts what is ready into batches, and runs them."""

    bound: Bound
    session: Session
    signature: Signature
    rows: int
    budget: Budget

    def of_texts(self, ready: Sequence[Ready]) -> bool:
        return all(one.tokens is not None for one in ready)

    def predictions(self, ready: Sequence[Ready]) -> Iterator[object]:
        found: dict[int, object] = {}
        waiting: deque[tuple[list[int], Future[Feeds]]] = deque()
        for places in self._cut(ready):
            feeds = self.bound.encoder.stack(
                pad([ready[place] for place in places], self.rows, self.signature)
            )
            if self.budget.flights == 1:
                found |= self._told(ready, places, self.session.run(feeds))
                continue
            if len(waiting) == self.budget.flights:
                first, future = waiting.popleft()
                found |= self._told(ready, first, future.result())
            waiting.append((places, self.session.submit(feeds)))
        for places, future in waiting:
            found |= self._told(ready, places, future.result())
        for place in range(len(ready)):
            yield found.pop(place)

    def _cut(self, ready: Sequence[Ready]) -> list[list[int]]:
        if self.of_texts(ready):
            fixed = None if self.signature.dynamic_batch else self.rows
            return cut([one.tokens or 0 for one in ready], self.budget.tokens, fixed)
        return list(chunks(range(len(ready)), self.rows))

    def _told(self, ready: Sequence[Ready], places: list[int], outputs: Feeds) -> dict[int, object]:
        padded = len(places) if self.signature.dynamic_batch else self.rows
        records = [ready[place].record for place in places]
        rows = self.bound.rows(trim(outputs, len(places), padded), records)
        return dict(zip(places, rows, strict=True))
