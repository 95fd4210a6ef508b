"""Text embedding: texts in, one vector each out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.similarity import MIN_SAMPLES
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._ranks import Pairs
from onnxpress.tasks._text_input import TextInput, takes_texts

OUTPUT = "sentence_embedding"


class TextEmbedding(Task):
    """Token inputs, and a float output ``sentence_embedding`` (batch, dimensions)."""

    uses_labels = False

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "texts" and takes_texts(signature) and _embedding(signature) is not None

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _embedding(signature)
        if output is None:
            raise InputError(
                f"the model gives {', '.join(map(str, signature.outputs))}",
                f"a float output {OUTPUT} (batch, dimensions)",
                "choose another --task",
            )
        return _Bound(TextInput(signature, processing), output)


class _Bound(Bound):
    def __init__(self, texts: TextInput, output: TensorSpec) -> None:
        self._texts, self._output = texts, output.name

    def encode(self, records: Sequence[Record]) -> Feeds:
        """Texts; a mapping of input name → array is a ready tensor."""
        return self._texts.encode(records)

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"embedding": [...]}``."""
        return [{"embedding": row.tolist()} for row in self._vectors(outputs)]

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """One float32 vector each."""
        return list(self._vectors(outputs))

    def gather(self, rows: list[object]) -> object:
        """float32 (texts, dimensions)."""
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
            raise SamplesError(f"{pairs.n} texts to score with", "at least 2, which make a pair")
        return pairs.quality()

    def needed(self, floor: float) -> int | None:
        return MIN_SAMPLES if floor <= 1 else None

    def _vectors(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(outputs[self._output], np.float32)


def _embedding(signature: Signature) -> TensorSpec | None:
    for spec in signature.outputs:
        floating = spec.dtype.startswith(("float", "bfloat"))
        if spec.name == OUTPUT and floating and spec.shape is not None and len(spec.shape) == 2:
            return spec
    return None
