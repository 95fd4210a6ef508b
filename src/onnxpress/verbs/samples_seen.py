"""What is wrong with samples before a model has seen them: NaN, too few, all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.samples import Samples
from onnxpress.signature import Feeds

ADVISED = 32
"""Samples to calibrate on; fewer seldom show the range of every activation."""


def refuse_nan(samples: Samples, batches: Callable[[], Iterable[Feeds]]) -> None:
    """Raise ``SamplesError`` for the first of ``samples`` with a NaN, encoded as ``batches``.

    Pictures and texts have none: they are not read.
    """
    if samples.kind in ("images", "texts"):
        return
    seen = 0
    for feeds in batches():
        for name, array in feeds.items():
            if array.dtype.kind != "f" or not np.isnan(array).any():
                continue
            row = int(np.argwhere(np.isnan(array))[0][0]) if array.ndim else 0
            raise SamplesError(
                f"sample {seen + row} of {samples.description} has NaN in input '{name}'",
                "numbers",
                "leave it out, or fill in what is missing",
            )
        seen += max((len(array) for array in feeds.values() if array.ndim), default=1)


class Watched:
    """Batches that are looked at on their way: ``warnings`` says what they lack."""

    def __init__(self, batches: Callable[[], Iterable[Feeds]], count: int) -> None:
        self._batches, self._count = batches, count
        self._first: Feeds | None = None
        self._differ = self._other_than_zero = False
        self._infinite: dict[str, None] = {}

    def __call__(self) -> Iterator[Feeds]:
        for feeds in self._batches():
            self._look(feeds)
            yield feeds

    def _look(self, feeds: Feeds) -> None:
        if self._first is None:
            self._first = {name: array[:1].copy() for name, array in feeds.items() if array.ndim}
        self._infinite |= dict.fromkeys(name for name, array in feeds.items() if _overflows(array))
        if not self._other_than_zero:
            self._other_than_zero = any(
                array.dtype.kind not in "fiu" or array.any() for array in feeds.values()
            )
        if not self._differ:
            self._differ = any(
                array.shape[1:] != self._first[name].shape[1:]
                or not (array == self._first[name]).all()
                for name, array in feeds.items()
                if name in self._first
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of all batches that were handed out so far."""
        told = []
        if self._first is not None and not self._other_than_zero:
            told.append(
                "all samples that calibrated are zeros: the ranges say nothing of real inputs"
            )
        elif self._first is not None and not self._differ and self._count > 1:
            told.append(
                f"the {self._count} samples that calibrated are all alike: "
                "the ranges say little of other inputs"
            )
        if self._infinite:
            names = ", ".join(f"'{name}'" for name in self._infinite)
            told.append(f"infinite numbers in input {names}: the ranges leave them out")
        if self._count < ADVISED:
            many = "1 sample" if self._count == 1 else f"{self._count} samples"
            told.append(
                f"only {many} calibrated: at least {ADVISED} are advised, "
                f"which {5 * ADVISED} in all always give"
            )
        return tuple(told)


def _overflows(array: np.ndarray) -> bool:
    """Whether it has infinities, and is no mask of 0 and minus infinity."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return False
    return bool(array[np.isfinite(array)].any() or (array == np.inf).any())
