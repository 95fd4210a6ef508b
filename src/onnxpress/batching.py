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
"""Tokens of a batch of texts, padding included: what that is worth is in docs/performance.md."""
WINDOW = 4096
"""Texts that are sorted by length together."""
GROWTH = 4
"""A window over the one before: the first prediction of many texts waits for few of them."""
SLICE = 256
"""Texts that one thread tokenises at once."""


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
    bound: Bound,
    session: Session,
    signature: Signature,
    records: Iterable[Record],
    rows: int = ROWS,
    tokens: int = TOKENS,
    requests: int = 1,
) -> Iterator[object]:
    """One prediction per record, in order, as ``bound.rows`` has them.

    A batch holds ``rows`` records, or ``tokens`` where they are texts; ``requests`` of them run at
    once. Reads one window ahead of the one that it yields, but none ahead of the first. Raises
    ``SamplesError`` naming a bad record, after the predictions of the windows before.
    """
    source, rows = iter(records), rows_per_batch(signature, rows)
    run = _Run(bound, session, signature, rows, tokens, requests)
    first = list(islice(source, rows))
    yield from run.predictions(bound.encoder.prepare(first))
    if len(first) < rows:  # few records need no threads
        return
    with ThreadPoolExecutor(this_machine().threads, "onnxpress-prepare") as pool:
        size, following = rows, _prepared(bound, pool, islice(source, rows))
        while ready := [one for part in following for one in part.result()]:
            size = min(WINDOW, GROWTH * size) if _are_texts(ready) else rows
            following = _prepared(bound, pool, islice(source, size))
            yield from run.predictions(ready)


def _prepared(
    bound: Bound, pool: ThreadPoolExecutor, window: Iterable[Record]
) -> list[Future[list[Ready]]]:
    """A slice of ``window`` on each thread; the records are read here and now."""
    records = list(window)
    each = max(1, min(SLICE, -(-len(records) // this_machine().threads)))
    return [pool.submit(bound.encoder.prepare, part) for part in chunks(records, each)]


def _are_texts(ready: Sequence[Ready]) -> bool:
    return all(one.tokens is not None for one in ready)


@dataclass(frozen=True)
class _Run:
    """Cuts what is ready into batches, and runs them."""

    bound: Bound
    session: Session
    signature: Signature
    rows: int
    tokens: int
    requests: int

    def predictions(self, ready: Sequence[Ready]) -> Iterator[object]:
        found: dict[int, object] = {}
        for places, outputs in self._outputs(ready):
            records = [ready[place].record for place in places]
            padded = len(places) if self.signature.dynamic_batch else self.rows
            rows = self.bound.rows(trim(outputs, len(places), padded), records)
            found |= zip(places, rows, strict=True)
        for place in range(len(ready)):
            yield found.pop(place)

    def _outputs(self, ready: Sequence[Ready]) -> Iterator[tuple[list[int], Feeds]]:
        """The places of each batch, and what the model makes of it."""
        under_way: deque[tuple[list[int], Future[Feeds]]] = deque()
        for places in self._cut(ready):
            batch = pad([ready[place] for place in places], self.rows, self.signature)
            feeds = self.bound.encoder.stack(batch)
            if self.requests == 1:
                yield places, self.session.run(feeds)
                continue
            if len(under_way) == self.requests:
                first, future = under_way.popleft()
                yield first, future.result()
            under_way.append((places, self.session.submit(feeds)))
        for places, future in under_way:
            yield places, future.result()

    def _cut(self, ready: Sequence[Ready]) -> list[list[int]]:
        if _are_texts(ready):
            fixed = None if self.signature.dynamic_batch else self.rows
            return cut([one.tokens or 0 for one in ready], self.tokens, fixed)
        return list(chunks(range(len(ready)), self.rows))
