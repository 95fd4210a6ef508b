"""Rows of a table: a class or a number for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import needed_for_proportion
from onnxpress.processing import Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.similarity import MIN_SAMPLES, Concordance
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._determination import Determination
from onnxpress.tasks._table_input import TableInput
from onnxpress.tasks._top1 import Tally, judged

LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"


class Tabular(Task):
    """Inputs [batch, columns]; outputs ``label`` and ``probabilities``, or ``prediction``."""

    def fits(self, signature: Signature, kind: str) -> bool:
        ranks = {len(spec.shape or ()) for spec in signature.inputs}
        return kind == "rows" and ranks == {2} and _main(signature) is not None

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        table, output = TableInput(signature, processing), _main(signature)
        if output is None:
            raise InputError(
                f"the model gives {', '.join(map(str, signature.outputs))}",
                f"an output {LABEL} (batch) or {PREDICTION} (batch, targets)",
                "choose another --task",
            )
        if output.name == PREDICTION:
            return _Regressor(table)
        return _Classifier(table, processing.labels if processing else ())


class _Table(Bound):
    def __init__(self, table: TableInput) -> None:
        self.encoder = table


class _Classifier(_Table):
    def __init__(self, table: TableInput, names: tuple[str, ...]) -> None:
        super().__init__(table)
        self._names = names

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"class", "score", "probabilities"}``; the class alone without probabilities."""
        found = [self._named(value) for value in outputs[LABEL].reshape(-1).tolist()]
        if PROBABILITIES not in outputs:
            return [{"class": name} for name in found]
        rows = outputs[PROBABILITIES].astype(np.float64)
        return [
            {"class": name, "score": float(row.max()), "probabilities": row.tolist()}
            for name, row in zip(found, rows, strict=True)
        ]

    def _named(self, label: int | str) -> int | str:
        known = isinstance(label, int) and 0 <= label < len(self._names)
        return self._names[int(label)] if known else label

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, accuracy divided by the origin's; without, labels that agree with it.

        As for image classification. A row with NaN among its probabilities has no class.
        """
        agreed, labelled, numbers = Tally(), Tally(), _Numbers()
        for batch in batches:
            mine = _labels(batch.outputs, len(batch.labels), numbers)
            theirs = _labels(batch.reference, len(batch.labels), numbers)
            for a, r, label in zip(mine, theirs, batch.labels, strict=True):
                agreed.add(a, r, r)
                if label is not None:
                    labelled.add(a, r, numbers.of(label))
        return judged(agreed, labelled)

    def needed(self, floor: float) -> int | None:
        return needed_for_proportion(floor)


class _Numbers:
    """A number for each label, the same for 1, 1.0 and "1"."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, label: Label) -> int:
        whole = isinstance(label, float) and label.is_integer()
        return self._seen.setdefault(f"{label:.0f}" if whole else str(label), len(self._seen))


def _labels(outputs: Mapping[str, np.ndarray], rows: int, numbers: _Numbers) -> list[int]:
    found = outputs.get(LABEL)
    if found is None or found.size != rows:
        return [-1] * rows
    broken = np.zeros(rows, bool)
    probabilities = outputs.get(PROBABILITIES)
    if probabilities is not None and len(probabilities) == rows:
        broken = np.isnan(probabilities.reshape(rows, -1)).any(axis=1)
    values = found.reshape(-1).tolist()
    return [-1 if bad else numbers.of(v) for v, bad in zip(values, broken, strict=True)]


class _Regressor(_Table):
    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"prediction": number}``, a list for several targets."""
        rows = outputs[PREDICTION].reshape(len(outputs[PREDICTION]), -1).tolist()
        return [{PREDICTION: row[0] if len(row) == 1 else row} for row in rows]

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, R² divided by the origin's; without, the concordance correlation.

        Similarity counts too where there are several targets, and where the origin's R² is not
        above 0.
        """
        alike, determined = Concordance(PREDICTION), Determination()
        rows = 0
        for batch in batches:
            reference = batch.reference[PREDICTION]
            candidate = batch.outputs.get(PREDICTION, np.empty(0))
            rows += len(reference)
            alike.add(candidate, reference)
            numbers = [_number(label) for label in batch.labels]
            if None in numbers or reference.size != len(numbers):
                continue
            same = candidate.shape == reference.shape
            mine = candidate if same else np.full(reference.shape, np.nan)
            determined.add(
                mine.reshape(-1).astype(np.float64),
                reference.reshape(-1).astype(np.float64),
                np.array(numbers, np.float64),
            )
        if rows < 2:
            raise SamplesError(f"{rows} rows to score with", "at least 2", "give more --samples")
        quality = determined.quality() if determined.n == rows else None
        if quality is not None:
            return quality
        result = alike.result()
        metric, low = result.metric, result.low
        if determined.n == rows:
            metric += " (the labels prove nothing: the origin's R² is not above 0)"
        if not result.varies:
            metric += f", which proves nothing: the origin gives one output for all {rows} rows"
            low = min(low, 0.0)
        return Quality(result.value, low, rows, metric)

    def needed(self, floor: float) -> int | None:
        return None if floor >= 1 else MIN_SAMPLES  # rounding alone keeps it below 1


def _number(label: Label | None) -> float | None:
    return float(label) if isinstance(label, int | float) else None


def _main(signature: Signature) -> TensorSpec | None:
    """``label`` of a classifier or ``prediction`` of a regressor."""
    named = {spec.name: spec for spec in signature.outputs}
    return named.get(LABEL) or named.get(PREDICTION)
