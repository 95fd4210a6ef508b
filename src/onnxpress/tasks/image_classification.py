"""Image classification: images in, one score per class out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import needed_for_proportion, wilson_lower
from onnxpress.processing import ImageProcessing, Processing, open_image
from onnxpress.samples import Label, Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.stacking import stack
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._image_input import CHANNEL_AXIS, may_be, prepared, takes_images
from onnxpress.tasks._top1 import Tally, accuracy, top1, unproven_if_one_class

TOP = 5


class ImageClassification(Task):
    """One image input of rank 4, and a float output (batch, classes) of logits or probabilities.

    The first output of that form counts; others are ignored.
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        if kind != "images" or len(signature.inputs) != 1 or _scores(signature) is None:
            return False
        spec = signature.inputs[0]
        return takes_images(spec) and any(may_be(spec, name) for name in CHANNEL_AXIS)

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        """The image size is the processing's, or the input's where that is fixed."""
        output = _scores(signature)
        if len(signature.inputs) != 1 or not takes_images(signature.inputs[0]) or output is None:
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                "one image input of rank 4, and a float output (batch, classes) of 2 or more",
                "choose another --task",
            )
        image = prepared(signature.inputs[0], processing.image if processing else None)
        labels = processing.labels if processing else ()
        assert output.shape is not None
        classes = output.shape[1]
        if labels and isinstance(classes, int) and len(labels) != classes:
            raise InputError(f"{len(labels)} class names for output {output}", f"{classes} names")
        return _Bound(signature, image, output, labels)


class _Bound(Bound):
    def __init__(
        self,
        signature: Signature,
        image: ImageProcessing,
        output: TensorSpec,
        labels: tuple[str, ...],
    ) -> None:
        self._signature, self._image, self._output = signature, image, output.name
        self._labels = labels
        assert image.layout is not None
        spec, self._layout = signature.inputs[0], image.layout
        assert spec.shape is not None
        channels = spec.shape[CHANNEL_AXIS[self._layout]]
        free = 1 if image.channels == "gray" else 3
        self._channels = channels if isinstance(channels, int) else free

    def encode(self, records: Sequence[Record]) -> Feeds:
        """Images (path, bytes, uint8 pixels, Pillow's) are prepared, ready tensors are kept.

        A mapping, or a float array of the input's shape without batch, is a ready tensor.
        """
        return stack(self._signature, [self._tensor(record) for record in records])

    def _tensor(self, record: Record) -> Record:
        value: object = record.value
        if isinstance(value, Mapping) or (
            isinstance(value, np.ndarray) and value.dtype != np.uint8
        ):
            return record
        try:
            image, dtype = open_image(value), self._signature.inputs[0].dtype
            array = self._image.apply(image, self._channels, self._layout, dtype)
        except SamplesError as error:
            if not record.name or record.name in error.found:
                raise
            raise SamplesError(
                f"'{record.name}': {error.found}", error.expected, error.fix
            ) from error
        return replace(record, value=array)

    def decode(self, outputs: Mapping[str, np.ndarray]) -> list[Prediction]:
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
        if not agreed.n:
            raise SamplesError("there are no samples to score with", "at least 2")
        if labelled.n and labelled.tells():
            return accuracy(labelled)
        metric = "top-1 agreement"
        if labelled.n:
            right, often = labelled.reference / labelled.n, labelled.most_frequent / labelled.n
            metric += (
                f" (the labels prove nothing: the origin gets {right:.1%} of them right, and one "
                f"class alone is {often:.1%})"
            )
        value, low = agreed.candidate / agreed.n, wilson_lower(agreed.candidate, agreed.n)
        quality = Quality(value, low, agreed.n, metric)
        return unproven_if_one_class(quality, agreed, "the origin says")

    def needed(self, floor: float) -> int | None:
        """For agreement and for an origin that is always right; at accuracy a, up to 1/a times."""
        return needed_for_proportion(floor)

    def _index(self, label: Label, classes: int) -> int:
        """The class index of a label: an index, or a name among the processing's."""
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


def _scores(signature: Signature) -> TensorSpec | None:
    for spec in signature.outputs:
        classes = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else 0
        floating = spec.dtype.startswith(("float", "bfloat"))
        if floating and (isinstance(classes, str) or classes >= 2):
            return spec
    return None
