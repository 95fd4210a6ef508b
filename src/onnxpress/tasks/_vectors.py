"""One vector per sample: how it is told and judged, whatever the input is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.samples import Record
from onnxpress.signature import TensorSpec
from onnxpress.similarity import MIN_SAMPLES
from onnxpress.task import Bound, Prediction, Quality, Scored
from onnxpress.tasks._ranks import Pairs


class VectorBound(Bound):
    """A model with a float output (batch, dimensions); ``encode`` is missing."""

    def __init__(self, output: TensorSpec) -> None:
        self._output = output.name

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"embedding": [...]}``."""
        return [{"embedding": row.tolist()} for row in self._vectors(outputs)]

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """One float32 vector each."""
        return list(self._vectors(outputs))

    def gather(self, rows: list[object]) -> object:
        """float32 (samples, dimensions)."""
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)  # type: ignore[arg-type]  # vectors of ``rows``

    def score(self, batches: Iterable[Scored]) -> Quality:
        """Spearman's correlation of all pairwise cosine similarities with the origin's.

        Over at most 512 samples, the first ones; see ``_ranks.Pairs`` for the interval.
        """
        pairs = Pairs()
        for batch in batches:
            reference = batch.reference[self._output]
            pairs.add(batch.outputs.get(self._output), reference)
        if pairs.n < 2:
            raise SamplesError(f"{pairs.n} samples to score with", "at least 2, which make a pair")
        return pairs.quality()

    def needed(self, floor: float) -> int | None:
        return MIN_SAMPLES if floor <= 1 else None

    def _vectors(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(outputs[self._output], np.float32)


def is_vector(spec: TensorSpec) -> bool:
    """Whether it is (batch, dimensions) of floats."""
    floating = spec.dtype.startswith(("float", "bfloat"))
    return floating and spec.shape is not None and len(spec.shape) == 2
