"""Tensors in, tensors out: the task of a model that nothing more is known about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.intervals import needed_for_proportion
from onnxpress.processing import Processing
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.similarity import (
    MIN_SAMPLES,
    Agreement,
    Comparison,
    Concordance,
    Similarity,
)
from onnxpress.stacking import stack, static_batch, takes_columns
from onnxpress.task import Bound, Encoder, Prediction, Quality, Ready, Scored, Task


class Tensor(Task):
    """Feeds in, raw outputs out. Labels are not used, since nothing says what they label."""

    uses_labels = False

    def fits(self, signature: Signature, kind: str) -> bool:
        named = len(signature.inputs) > 1
        return kind == "tensors" or (kind == "rows" and (named or takes_columns(signature)))

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        return _Bound(signature)


class _Tensors(Encoder):
    def __init__(self, signature: Signature) -> None:
        self._signature = signature

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        """A record's value maps each input to an array without its batch dimension.

        See ``stacking.stack``. Images are refused: as tensors they would not be prepared.
        """
        for record in records:
            if isinstance(record.value, Path | bytes) or hasattr(record.value, "convert"):
                raise SamplesError(
                    f"'{record.name}' is an image, and the task 'tensor' takes tensors",
                    f"one array for each of {', '.join(map(str, self._signature.inputs))}",
                    "say what the model does and how images are prepared with "
                    "--task image_classification --preprocess size=…,mean=…,std=…",
                )
        return super().prepare(records)

    def stack(self, ready: Sequence[Ready]) -> Feeds:
        return stack(self._signature, [one.record for one in ready])


class _Bound(Bound):
    def __init__(self, signature: Signature) -> None:
        self._signature, self.encoder = signature, _Tensors(signature)

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """Output name → nested list. An output without batch dimension is whole in each row."""
        return [
            {name: _listed(array) for name, array in row.items()} for row in self._rows(outputs)
        ]

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """Output name → array."""
        return list(self._rows(outputs))

    def _rows(self, outputs: Mapping[str, np.ndarray]) -> list[Feeds]:
        specs = {spec.name: spec for spec in self._signature.outputs}
        batched = {
            name
            for name, array in outputs.items()
            if array.ndim and (name not in specs or self._counts_rows(specs[name]))
        }
        sizes = {len(outputs[name]) for name in batched}
        if len(sizes) != 1:
            return [dict(outputs)]
        return [
            {
                name: np.asarray(array[row]) if name in batched else array
                for name, array in outputs.items()
            }
            for row in range(sizes.pop())
        ]

    def score(self, batches: Iterable[Scored]) -> Quality:
        """The worst output's concordance correlation, or agreement where it is no float.

        An output whose first dimension is not the batch's counts as one sample per batch. An
        output that the candidate lacks has 0. Needs samples that make an output vary, and at
        least 8 of them for a lower end above -1.
        """
        compared: dict[str, Comparison] = {}
        rows = 0
        for batch in batches:
            rows += len(batch.labels)
            for spec in self._signature.outputs:
                if spec.name not in compared:
                    compared[spec.name] = _comparison(spec)
                reference = batch.reference[spec.name]
                candidate = batch.outputs.get(spec.name, np.empty(0))
                whole = not self._counts_rows(spec) or reference.shape[:1] != (len(batch.labels),)
                if whole:
                    candidate, reference = candidate[np.newaxis], reference[np.newaxis]
                compared[spec.name].add(candidate, reference)
        if rows < 2:
            raise SamplesError(
                f"{rows} sample{'s' if rows != 1 else ''} to score with",
                "at least 2, as a model is judged by how its outputs vary",
                "give more --samples",
            )
        return _worst({name: comparison.result() for name, comparison in compared.items()})

    def needed(self, floor: float) -> int | None:
        counted = [_comparison(spec) for spec in self._signature.outputs]
        agreement = any(isinstance(comparison, Agreement) for comparison in counted)
        if floor >= 1:  # rounding alone keeps it below 1
            return None
        if not agreement:
            return MIN_SAMPLES
        proportion = needed_for_proportion(floor)
        return None if proportion is None else max(proportion, MIN_SAMPLES)

    def _counts_rows(self, spec: TensorSpec) -> bool:
        if spec.shape is None:
            return True
        return spec.dynamic_batch or spec.shape[:1] == (static_batch(self._signature),)


def _comparison(spec: TensorSpec) -> Comparison:
    floating = spec.dtype.startswith(("float", "bfloat"))
    return Concordance(spec.name) if floating else Agreement()


def _worst(similarities: Mapping[str, Similarity]) -> Quality:
    n = min(similarity.n for similarity in similarities.values())
    name, worst = min(similarities.items(), key=lambda item: item[1].value)
    low = min(similarity.low for similarity in similarities.values())
    where = f" (output '{name}', the worst)" if len(similarities) > 1 else ""
    metric = worst.metric + where
    if not any(similarity.varies for similarity in similarities.values()):
        low = min(low, 0.0)
        metric += f", which proves nothing: the origin gives one output for all {n} samples"
    return Quality(worst.value, low, n, metric)


def _listed(array: np.ndarray) -> object:
    """``tolist`` with Python numbers also for the types that NumPy lacks, such as bfloat16."""
    return (array.astype(np.float32) if array.dtype.kind == "V" else array).tolist()
