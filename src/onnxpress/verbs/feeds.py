"""Feeds to run a model on: random ones that respect what its inputs mean, or samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from onnxpress.batching import chunks, pad, rows_per_batch
from onnxpress.errors import InputError, SamplesError
from onnxpress.machine import this_machine
from onnxpress.samples import Samples
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.task import Bound

WORDS = ("", "a", "The quick brown fox", "ÄÖÜ straße", "42", "x" * 100)
"""Strings, where no example shows any."""
COPIES = 3
"""A batch of feeds lies in memory so often at least: here, on its way, and where it is run."""
FREE_SIZE, PICTURE_SIZE = 16, 64
"""Sizes of free dimensions other than the batch, where no example tells one."""


def random_feeds(
    signature: Signature,
    batch: int,
    seed: int,
    example: Mapping[str, np.ndarray] | None = None,
    sizes: Mapping[str, int] | None = None,
    drawn: Collection[str] = (),
    masks: Collection[str] = (),
) -> Feeds:
    """Seeded feeds of ``batch`` rows; ``sizes`` are those of free dimensions, by name.

    With an ``example`` its sizes, value ranges and integer values are kept: floats are normal
    with its mean and spread, integers, booleans and strings are drawn from its values. A mask
    of padding stays one; ``masks`` are inputs that are one, whatever they are called. Of inputs
    named in ``drawn`` (``Origin.drawn``) each column is drawn from the example's own. Other
    Booleans depend on whether ``seed`` is even or odd, see ``_flags``.
    """
    rng = np.random.default_rng(seed)
    known = dict(sizes or {})
    feeds = {}
    for spec in signature.inputs:
        shown = (example or {}).get(spec.name)
        feeds[spec.name] = _random(spec, batch, seed, rng, shown, known, spec.name in masks)
        if spec.name in drawn and shown is not None:
            rows = rng.integers(0, len(shown), feeds[spec.name].shape)
            feeds[spec.name] = np.take_along_axis(shown, rows, axis=0)
    return feeds


def seeds(signature: Signature, sizes: Sequence[int], seed: int = 0) -> list[tuple[int, int]]:
    """The rows and the seed of a batch of each of ``sizes``.

    A model with Boolean inputs of one size has a second one: each side of a branch is seen.
    """
    made = [(size, seed + size) for size in sizes]
    if len(made) == 1 and any(spec.dtype == "bool" for spec in signature.inputs):
        made.append((sizes[0], made[0][1] + 1))
    return made


def free_size(spec: TensorSpec) -> int:
    """Of a free dimension of ``spec``; networks halve the sides of a picture several times."""
    return PICTURE_SIZE if len(spec.shape or ()) > 3 else FREE_SIZE


def _random(
    spec: TensorSpec,
    batch: int,
    seed: int,
    rng: np.random.Generator,
    example: np.ndarray | None,
    sizes: dict[str, int],
    mask: bool,
) -> np.ndarray:
    if spec.shape is None:
        raise InputError(f"random values for input {spec}", "samples", "give --samples")
    shape = []
    for axis, dim in enumerate(spec.shape):
        known = example.shape[axis] if example is not None and axis > 0 else free_size(spec)
        free = batch if axis == 0 else known
        shape.append(
            dim if isinstance(dim, int) else free if dim == "?" else sizes.setdefault(dim, free)
        )
    if spec.dtype == "object":
        words = WORDS if example is None or not example.size else example.reshape(-1)
        return rng.choice(words, shape).astype(object)
    dtype = np.dtype(spec.dtype) if spec.dtype != "bfloat16" else np.dtype("float32")
    if dtype.kind == "f":
        centre, spread = (0.0, 1.0)
        if example is not None and example.size > 1 and float(np.std(example)) > 0:
            centre, spread = float(np.mean(example)), float(np.std(example))
        return (rng.standard_normal(shape) * spread + centre).astype(dtype)
    if example is not None and (mask or _is_mask(spec, example)):
        return masked(shape, rng, left=not example[:, 0].all()).astype(dtype)
    if example is not None and example.size:
        drawn: np.ndarray = rng.choice(example.reshape(-1), shape)
        return drawn.astype(dtype)
    if dtype.kind == "b":
        return _flags(shape, seed, rng)
    return (np.ones(shape) if "mask" in spec.name else rng.integers(0, 2, shape)).astype(dtype)


def _flags(shape: list[int], seed: int, rng: np.random.Generator) -> np.ndarray:
    """Booleans; the first row (a scalar has no other) is True for odd seeds, False for even ones.

    Of several along the last dimension, the first being the batch, one is always True: a mask
    that excludes everything has no defined answer.
    """
    flags = np.asarray(rng.integers(0, 2, shape).astype(bool))
    first = flags[:1] if shape else flags
    first[...] = seed % 2 == 1
    if len(shape) > 1 and shape[-1] > 1:
        shown = rng.integers(0, shape[-1], (*shape[:-1], 1))
        np.put_along_axis(flags, shown, True, axis=-1)
    return flags


def _is_mask(spec: TensorSpec, example: np.ndarray) -> bool:
    """Whether the example marks each row's places: ones, and zeros at one end alone."""
    if "mask" not in spec.name or example.ndim != 2 or example.dtype.kind not in "iub":
        return False
    ones = example.astype(np.int64)
    changes = (np.diff(ones, axis=1) != 0).sum(axis=1)
    return bool(np.isin(ones, (0, 1)).all() and (changes <= 1).all() and ones.any(axis=1).all())


def masked(shape: list[int], rng: np.random.Generator, *, left: bool = False) -> np.ndarray:
    """Ones: at least one in each row, all in the first; zeros at the end, or on the ``left``.

    A row without any place has no defined answer, and no tokenizer makes one.
    """
    rows, length = shape
    counts = rng.integers(1, length + 1, rows) if length else np.zeros(rows, np.int64)
    counts[:1] = length
    places = np.arange(length)
    return (places >= length - counts[:, None]) if left else (places < counts[:, None])


def sample_feeds(
    bound: Bound, samples: Samples, signature: Signature, rows: int, limit: int | None = None
) -> Callable[[], Iterable[Feeds]]:
    """Encoded batches of ``samples``, made anew at each call; at most ``limit`` batches."""
    size = rows_per_batch(signature, rows)

    def batches() -> Iterable[Feeds]:
        for index, records in enumerate(chunks(samples, size)):
            if limit is not None and index >= limit:
                return
            try:
                yield bound.encode(pad(records, size, signature))
            except SamplesError:
                if len(records) == 1 or not signature.dynamic_batch:
                    raise
                for record in records:  # each of its own size, or at fault alone
                    yield bound.encode([record])

    return batches


def first_feeds(bound: Bound, samples: Samples, signature: Signature, rows: int) -> Feeds:
    """The first ``rows`` samples as one batch; where there are fewer they come again.

    Raises ``SamplesError`` where there are none, ``InputError`` where the batch fits no memory.
    """
    records = list(itertools.islice(samples, min(rows, len(samples))))
    if not records:
        raise SamplesError("there are no samples", "at least one")

    def encoded(count: int) -> Feeds:
        return bound.encode(list(itertools.islice(itertools.cycle(records), count)))

    few = rows_per_batch(signature, 1)
    row = sum(array.nbytes for array in encoded(few).values()) // few
    check_memory(f"--batch {rows}", COPIES * rows * row)
    return encoded(rows)


def check_memory(what: str, needed: int) -> None:
    """Raise ``InputError`` where ``needed`` bytes are more than this machine has.

    What a model takes for what it computes in between comes on top, and is not known before.
    """
    there = this_machine().memory_bytes
    if 0 < there < needed:
        raise InputError(
            f"{what} needs {needed / 1e9:.3g} GB for its inputs and outputs alone",
            f"at most the {there / 1e9:.3g} GB of this machine",
            "take a smaller --batch",
        )
