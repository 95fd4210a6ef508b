"""Samples: a stream of records that can be read again and is never whole in memory."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.signature import Signature

Label = int | float | str | Path | np.ndarray
"""A class, a number or a text; an array (mask, image, boxes), or the image file that holds it."""

NOT_KEPT = np.empty(0)
"""Stands for an array wherever labels are listed: all arrays together may not fit into memory."""

Raw = Path | str | bytes | np.ndarray | Mapping[str, object]
"""An image's path, bytes or pixels, a text, a table's row, or tensors by input name."""


@dataclass(frozen=True)
class Record:
    """One raw input, what it is labelled, and a name for messages."""

    value: Raw
    label: Label | None = None
    name: str = ""


class Samples:
    """Records that are made anew at each iteration, in the same order.

    ``kind`` is ``images``, ``texts``, ``rows`` or ``tensors``; ``classes`` are the names behind
    integer labels, where there are any; ``random`` marks made-up values. ``identity`` is what
    ``fingerprint`` hashes, or makes it when asked: everything that decides the records.
    """

    def __init__(
        self,
        stream: Callable[[], Iterable[Record]],
        kind: str,
        description: str,
        *,
        identity: str | Callable[[], str] = "",
        random: bool = False,
        classes: tuple[str, ...] = (),
        labels: Sequence[Label | None] | None = None,
        chosen: frozenset[int] | None = None,
    ) -> None:
        self._stream, self.kind, self.description = stream, kind, description
        self._identity, self.random, self.classes = identity, random, classes
        self._labels = None if labels is None else [_listed(label) for label in labels]
        self._chosen = chosen

    @classmethod
    def open(
        cls,
        ref: object,
        *,
        label: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        signature: Signature | None = None,
    ) -> Samples:
        """Samples from any form of the command line, or from live objects.

        A folder of images, COCO's ``annotations.json`` or its folder, ``.txt``, ``.jsonl``,
        ``.csv``, ``.parquet``, ``.npz``, ``FILE.py:function``, ``random:N`` (which needs the
        ``signature``); a list of paths, arrays, texts, mappings, ``Record`` or (value, label)
        pairs; a dict of arrays; an array of rows. Raises ``SamplesError`` where there is nothing,
        or it is of no known form.
        """
        from onnxpress.readers import read

        if limit is not None and limit < 1:
            raise SamplesError(f"--limit {limit}", "a number of at least 1")
        if seed < 0:
            raise SamplesError(f"--seed {seed}", "a number of at least 0")
        samples = ref if isinstance(ref, Samples) else read(ref, label, seed, signature)
        if len(samples) == 0:
            raise SamplesError(f"{samples.description} holds no samples", "at least one")
        return samples if limit is None else samples.limit(limit, seed)

    def __iter__(self) -> Iterator[Record]:
        end = None if self._chosen is None else max(self._chosen, default=-1) + 1
        for index, record in enumerate(itertools.islice(self._stream(), end)):
            if self._chosen is None or index in self._chosen:
                yield record

    def batches(self, size: int) -> Iterator[list[Record]]:
        """Lists of ``size`` records, the last one shorter; reads only what it yields."""
        records = iter(self)
        while batch := list(itertools.islice(records, size)):
            yield batch

    def __len__(self) -> int:
        return len(self._all_labels()) if self._chosen is None else len(self._chosen)

    def labels(self) -> list[Label | None]:
        """The labels alone, in order; the first call may read the records once.

        Arrays are not kept: ``NOT_KEPT`` stands for each, and the record itself has it.
        """
        every = self._all_labels()
        return every if self._chosen is None else [every[i] for i in sorted(self._chosen)]

    @property
    def has_labels(self) -> bool:
        return any(label is not None for label in self.labels())

    def limit(self, count: int, seed: int = 0) -> Samples:
        """At most ``count`` records: the first ones, or of each class its share of the first."""
        if count >= len(self):
            return self
        return self._subset(self._draw(count, seed))

    def split(self, calibration: int, seed: int) -> tuple[Samples, Samples]:
        """``calibration`` records drawn class by class, and all others; seeded, no overlap."""
        if not 0 < calibration < len(self):
            raise SamplesError(
                f"{calibration} of {len(self)} samples cannot calibrate", "fewer than all of them"
            )
        drawn = self._draw(calibration, seed, shuffled=True)
        return self._subset(drawn), self._subset(self._indices() - drawn)

    def fitting(self, signature: Signature) -> tuple[Samples, str]:
        """Class folders as the model counts its classes, and a warning where they cannot be.

        As many folders as classes: in the order of the folders. Otherwise folders that are named
        by numbers are classes by number; any other names label nothing.
        """
        sizes = {s.shape[1] for s in signature.outputs if s.shape is not None and len(s.shape) == 2}
        counts = {size for size in sizes if isinstance(size, int)}
        numbered = any(isinstance(label, int) for label in self.labels())
        if not numbered or not self.classes or not counts or len(self.classes) in counts:
            return self, ""
        if all(name.isdecimal() and int(name) < max(counts) for name in self.classes):
            return self.relabelled([int(name) for name in self.classes]), ""
        return self.relabelled([None] * len(self.classes)), (
            f"the samples have {len(self.classes)} class folders and the model {max(counts)} "
            "classes: the labels are not used, quality is agreement with the original; name "
            "folders by class number to use them"
        )

    def relabelled(self, labels: Sequence[Label | None]) -> Samples:
        """With label ``labels[i]`` for the records of class ``i``, and no class names any more."""
        new = [labels[old] if isinstance(old, int) else None for old in self._all_labels()]

        def stream() -> Iterator[Record]:
            for record, label in zip(self._stream(), new, strict=True):
                yield replace(record, label=label)

        return Samples(
            stream,
            self.kind,
            self.description,
            identity=f"{self._identity} {list(labels)}",
            random=self.random,
            labels=new,
            chosen=self._chosen,
        )

    def fingerprint(self) -> str:
        """SHA-256 of what decides the records: files with sizes and times, code, subset."""
        chosen = "all" if self._chosen is None else repr(sorted(self._chosen))
        identity = self._identity if isinstance(self._identity, str) else self._identity()
        text = "\n".join((self.kind, self.description, identity, chosen))
        return hashlib.sha256(text.encode()).hexdigest()

    def _subset(self, chosen: frozenset[int]) -> Samples:
        return Samples(
            self._stream,
            self.kind,
            self.description,
            identity=self._identity,
            random=self.random,
            classes=self.classes,
            labels=self._labels,
            chosen=chosen,
        )

    def _all_labels(self) -> list[Label | None]:
        if self._labels is None:
            self._labels = [_listed(record.label) for record in self._stream()]
        return self._labels

    def _indices(self) -> frozenset[int]:
        return self._chosen if self._chosen is not None else frozenset(range(len(self)))

    def _draw(self, count: int, seed: int, *, shuffled: bool = False) -> frozenset[int]:
        """``count`` indices with every class's share kept (largest remainders)."""
        every = self._all_labels()
        groups: dict[str, list[int]] = {}
        for index in sorted(self._indices()):
            groups.setdefault(_group(every[index]), []).append(index)
        classes = list(groups.values())
        if shuffled:
            rng = random.Random(seed)
            rng.shuffle(classes)  # or the first ones would get what cannot be divided
            for members in classes:
                rng.shuffle(members)
        shares = _shares([len(members) for members in classes], count)
        return frozenset(
            index
            for members, share in zip(classes, shares, strict=True)
            for index in members[:share]
        )


def stamp(path: Path) -> str:
    """What tells whether a file is still the same: its place, size and time."""
    try:
        stat = path.stat()
    except OSError:
        return f"{path} missing\n"
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n"


def _listed(label: Label | None) -> Label | None:
    return NOT_KEPT if isinstance(label, np.ndarray) else label


def _group(label: Label | None) -> str:
    """Classes by label; numbers with a fraction, arrays and files are no classes."""
    fraction = isinstance(label, float) and not label.is_integer()
    return "" if fraction or isinstance(label, np.ndarray | Path) else repr(label)


def _shares(sizes: list[int], count: int) -> list[int]:
    """``count`` divided in proportion to ``sizes``, none above its size, summing to ``count``."""
    total = sum(sizes)
    exact = [size * count / total for size in sizes]
    shares = [int(share) for share in exact]
    order = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for index in order[: count - sum(shares)]:
        shares[index] += 1
    return shares
