"""Cuts a stream of records into batches that a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from onnxpress.signature import Feeds, Signature

T = TypeVar("T")

ROWS = 16
"""Rows of a batch where nothing else decides."""


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
