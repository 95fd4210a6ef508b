"""The samples that ranges are observed on: which of them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from onnxpress.errors import SamplesError
from onnxpress.samples import Samples
from onnxpress.signature import Feeds
from onnxpress.verbs.samples_seen import ADVISED, Watched, refuse_nan

MOST_ROWS = 256
"""Rows of samples that ranges are observed on; training moves these on all there are."""


def first_of(samples: Iterable[object]) -> tuple[list[object], int]:
    """The first items, of ``MOST_ROWS`` rows in all, and how many rows they have."""
    one = isinstance(samples, str | Mapping | np.ndarray | torch.Tensor)
    if one or not isinstance(samples, Iterable):
        raise SamplesError(
            f"samples is a {type(samples).__name__}", "batches of inputs, in a list or a loader"
        )
    found: list[object] = []
    rows = 0
    for item in samples:
        if not any(isinstance(leaf, np.ndarray | torch.Tensor) for leaf in _leaves(item)):
            raise SamplesError(
                f"a batch holds a {type(next(_leaves(item), item)).__name__}",
                "tensors or arrays, batch first",
            )
        found.append(item)
        rows += _rows(item)
        if rows >= MOST_ROWS:
            break
    if not found:
        raise SamplesError("there are no samples", "batches of inputs to observe ranges on")
    return found, rows


def refuse_unfit(batches: Sequence[Feeds]) -> None:
    """Raise ``SamplesError`` for NaN, and for infinity but in a mask: of 0 and -infinity alone."""
    refuse_nan(Samples(lambda: (), "tensors", "those given"), lambda: batches)
    for number, feeds in enumerate(batches, 1):
        for name, array in feeds.items():
            if array.dtype.kind != "f" or not np.isinf(array).any():
                continue
            if not ((array == 0) | (array == -np.inf)).all():
                raise SamplesError(
                    f"batch {number} of the samples has infinity in input '{name}'",
                    "numbers",
                    "leave it out; a mask of 0 and -infinity may stay",
                )


def told_of(watched: Watched, rows: int) -> tuple[str, ...]:
    """What ``watched`` warns of; all ``rows`` calibrate here, where ``quantize`` takes some."""
    if rows >= ADVISED:
        return watched.warnings
    many = "1 row" if rows == 1 else f"{rows} rows"
    return (
        *watched.warnings[:-1],
        f"only {many} of samples calibrated: at least {ADVISED} are advised",
    )


def _leaves(item: object) -> Iterator[object]:
    """What is in a batch of any form."""
    if isinstance(item, Mapping):
        item = tuple(item.values())
    if not isinstance(item, tuple | list):
        yield item
        return
    for each in item:
        yield from _leaves(each)


def _rows(item: object) -> int:
    """How many rows a batch has, by its first tensor."""
    for leaf in _leaves(item):
        shape: tuple[int, ...] = getattr(leaf, "shape", ())
        if shape:
            return shape[0]
    return 1
