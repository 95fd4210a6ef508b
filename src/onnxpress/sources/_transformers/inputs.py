"""What a model of the library takes: names, an example, and feeds that a conversion may err on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxpress.signature import Feeds, Signature, TensorSpec

EXAMPLE_ROWS = 2
EXAMPLE_LENGTH = 16
PROBED_LENGTHS = (7, 33)
PROBED_BATCHES = (1, 2, 5)
IMAGE_STEP = 32
"""By how much probed image sizes differ: networks halve their input up to five times."""


@dataclass(frozen=True)
class TextInputs:
    """Token ids, the mask of padding and segments: int64 (batch, sequence) each.

    ``vocabulary`` and ``segments`` are how many ids there are; ``longest`` is how many tokens the
    model has positions for, None where any number goes.
    """

    names: tuple[str, ...]
    vocabulary: int
    segments: int = 1
    longest: int | None = None
    padding: int = 0
    left: bool = False

    @property
    def free(self) -> Mapping[str, Mapping[int, str]]:
        return {name: {1: "sequence"} for name in self.names}

    def example(self) -> Feeds:
        return self.feeds(EXAMPLE_ROWS, self._at_most(EXAMPLE_LENGTH), seed=0)

    def feeds(self, rows: int, length: int, seed: int) -> Feeds:
        """Random ids of the vocabulary; the first row is full, the others end in padding."""
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, length + 1, rows)
        counts[0] = length
        places = np.arange(length)
        real = places >= length - counts[:, None] if self.left else places < counts[:, None]
        ids = rng.integers(0, self.vocabulary, (rows, length))
        made = {
            "input_ids": np.where(real, ids, self.padding),
            "attention_mask": real,
            "token_type_ids": np.where(real, rng.integers(0, self.segments, (rows, length)), 0),
        }
        return {name: made[name].astype(np.int64) for name in self.names}

    def probes(self, signature: Signature) -> Iterator[Feeds]:
        """Several batches and two other lengths, padded, as far as the export left them free."""
        for seed, rows in enumerate(PROBED_BATCHES):
            for length in PROBED_LENGTHS:
                count, size = _sizes(signature.inputs[0], (rows, self._at_most(length)))
                made = self.feeds(count + 1, size, seed)
                # A lone row is a padded one: random feeds have full ones.
                yield {n: v[1:] if count == 1 else v[:count] for n, v in made.items()}

    def _at_most(self, length: int) -> int:
        return length if self.longest is None else max(1, min(length, self.longest))


@dataclass(frozen=True)
class ImageInputs:
    """``pixel_values``: float32 (batch, channels, height, width), about normal after processing.

    ``any_size`` tells whether the model takes other sizes than (height, width) ``size``.
    """

    channels: int
    size: tuple[int, int]
    any_size: bool = False

    @property
    def free(self) -> Mapping[str, Mapping[int, str]]:
        return {"pixel_values": {2: "height", 3: "width"}} if self.any_size else {}

    def example(self) -> Feeds:
        return self.feeds(EXAMPLE_ROWS, self.size, seed=0)

    def feeds(self, rows: int, size: tuple[int, int], seed: int) -> Feeds:
        shape = (rows, self.channels, *size)
        values = np.random.default_rng(seed).standard_normal(shape)
        return {"pixel_values": values.astype(np.float32)}

    def other_sizes(self) -> tuple[tuple[int, int], ...]:
        height, width = self.size
        return ((height + IMAGE_STEP, width), (height, width + 2 * IMAGE_STEP))

    def probes(self, signature: Signature) -> Iterator[Feeds]:
        """Two other sizes, where the export left the size free."""
        spec = signature.inputs[0]
        if not self.any_size or spec.shape is None or isinstance(spec.shape[2], int):
            return
        for seed, (rows, size) in enumerate(zip(PROBED_BATCHES, self.other_sizes(), strict=False)):
            shape = _sizes(spec, (rows, self.channels, *size))
            yield self.feeds(shape[0], (shape[2], shape[3]), seed)


def _sizes(spec: TensorSpec, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """``wanted`` where the input's dimension is free, otherwise the dimension."""
    dims = spec.shape or wanted
    return tuple(
        dim if isinstance(dim, int) else want for dim, want in zip(dims, wanted, strict=True)
    )
