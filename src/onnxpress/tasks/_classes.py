"""One score per class: how it is told and judged, whatever the input is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import needed_for_proportion
from onnxpress.samples import Label, Record
from onnxpress.signature import TensorSpec
from onnxpress.task import Bound, Prediction, Quality, Scored
from onnxpress.tasks._top1 import Tally, judged, top1

TOP = 5


class ClassBound(Bound):
    """A model with an output (batch, classes) of logits or probabilities; ``encode`` is missing."""

    def __init__(self, output: TensorSpec, labels: tuple[str, ...]) -> None:
        """Raises ``InputError`` where there are more or fewer names than classes."""
        assert output.shape is not None
        classes = output.shape[1]
        if labels and isinstance(classes, int) and len(labels) != classes:
            raise InputError(f"{len(labels)} class names for output {output}", f"{classes} names")
        self._output, self._labels = output.name, labels

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"class", "index", "score", "top"}``: the best class, and up to five with the best.

        ``score`` is the softmax of the row, or the row itself where it is a distribution already.
        ``class`` is the index where the class has no name.
        """
        return [self._best(row) for row in outputs[self._output].astype(np.float64)]

    def _best(self, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")[:TOP].tolist()
        scores = _probabilities(row)
        top: list[Prediction] = [
            {
                "class": self._labels[index] if index < len(self._labels) else index,
                "index": index,
                "score": float(scores[index]),
            }
            for index in order
        ]
        return {**top[0], "top": top}

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, accuracy divided by the origin's; without, top-1 agreement with the origin.

        Only labelled records count where there are any. The lower end of the ratio follows from
        Tango's interval for the difference of the accuracies, the origin's taken as known. Where
        the origin is not surely better than naming the most frequent label, agreement counts. A
        row with NaN has no class. The lower end is 0 where all samples are of one class, since a
        constant would pass as well.
        """
        agreed, labelled = Tally(), Tally()
        for batch in batches:
            mine = top1(batch.outputs.get(self._output), len(batch.labels))
            theirs = top1(batch.reference[self._output], len(batch.labels))
            classes = batch.reference[self._output].shape[1]
            for a, r, label in zip(mine, theirs, batch.labels, strict=True):
                agreed.add(a, r, r)
                if label is not None:
                    labelled.add(a, r, self._index(label, classes))
        return judged(agreed, labelled)

    def needed(self, floor: float) -> int | None:
        """For agreement and for an origin that is always right; at accuracy a, up to 1/a times."""
        return needed_for_proportion(floor)

    def _index(self, label: Label, classes: int) -> int:
        """The class index of a label: an index, or a name among the processing's."""
        if isinstance(label, np.ndarray | Path):
            told = label.name if isinstance(label, Path) else f"{label.dtype}{list(label.shape)}"
            found = f"a sample is labelled by an array ({told})"
            raise SamplesError(found, "a class for each sample", "choose another --task")
        if isinstance(label, str) and label in self._labels:
            return self._labels.index(label)
        digits = isinstance(label, str) and not self._labels and label.isdecimal()
        whole = not isinstance(label, str) and float(label).is_integer()
        if not ((digits or whole) and 0 <= int(label) < classes):
            names = f" or one of {', '.join(self._labels[:TOP])}, …" if self._labels else ""
            raise SamplesError(
                f"a sample is labelled {label!r}",
                f"a class from 0 to {classes - 1}{names}",
                "let the labels count the model's classes, or leave them out",
            )
        return int(label)


def _probabilities(row: np.ndarray) -> np.ndarray:
    if (row >= 0).all() and abs(row.sum() - 1) < 0.01:
        return row
    powers = np.exp(row - row.max())
    return np.asarray(powers / powers.sum())


def is_scores(spec: TensorSpec) -> bool:
    """Whether it is (batch, classes) of floats, for two classes or more."""
    classes = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else 0
    floating = spec.dtype.startswith(("float", "bfloat"))
    return floating and (isinstance(classes, str) or classes >= 2)
