"""Object detection: images in, boxes with classes and scores out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.intervals import left_out_lower
from onnxpress.placement import Size
from onnxpress.processing import Processing
from onnxpress.samples import Label, Record
from onnxpress.signature import Feeds, Signature
from onnxpress.similarity import MIN_SAMPLES
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._boxes import MOST, Boxes
from onnxpress.tasks._heads import FORMS, Head, head_of, natural
from onnxpress.tasks._image_input import ImageInput, has_image_input, sizes, takes_images
from onnxpress.tasks._precision import Precision

FOUND = "onnxpress detections"
"""Stands for the outputs once they are read: no model calls an output so."""

SHOWN = 0.25
"""Detections that score less are not told, and are no truth where there are no labels."""

GROUPS = 20
METRIC = "COCO mAP / origin's COCO mAP"
AGREEMENT = f"COCO mAP on the origin's detections of score {SHOWN} and more"


class Detection(Task):
    """One image input of rank 4, and the outputs of a detector; see ``_heads`` for their forms.

    A label is an array (n, 5) of class, left, top, width, height in the image's pixels; classes
    count as the model's. An image without objects is labelled by an array (0, 5).
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "images" and has_image_input(signature) and natural(signature)

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        names = processing.labels if processing else ()
        head = head_of(signature, len(names))
        if len(signature.inputs) != 1 or not takes_images(signature.inputs[0]) or head is None:
            told = f" for {len(names)} classes" if names else ""
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                f"one image input of rank 4, and {FORMS}{told}",
                "choose another --task",
            )
        return _Bound(ImageInput(signature, processing), head, names)


class _Bound(Bound):
    def __init__(self, images: ImageInput, head: Head, names: tuple[str, ...]) -> None:
        self.encoder = self._images = images
        self._head, self._names = head, names
        size = images.image.crop or images.image.size
        assert size is not None
        self._size = size

    def truth(self, record: Record) -> Label | None:
        """The labelled boxes as (n, 5) of class and corners in pixels of the model's input."""
        if record.label is None:
            return None
        label = np.asarray(record.label)
        told = f"'{record.name}' is labelled {_shown(record.label)}"
        if label.ndim != 2 or label.shape[1] != 5 or label.dtype.kind not in "iuf":
            raise SamplesError(told, "numbers [n, 5]: class, left, top, width, height of n boxes")
        label = label.astype(np.float64)
        classes = label[:, 0]
        most = self._head.classes or np.inf
        if not ((classes == np.floor(classes)) & (classes >= 0) & (classes < most)).all():
            raise SamplesError(
                f"{told} with the classes {sorted(set(classes.tolist()))[:5]}",
                "whole numbers from 0" + ("" if most == np.inf else f" to {int(most) - 1}"),
                "let the labels count the model's classes",
            )
        if not np.isfinite(label).all() or (label[:, 3:] < 0).any():
            raise SamplesError(f"{told} with a box of no size", "widths and heights of 0 and more")
        corners = np.concatenate([label[:, 1:3], label[:, 1:3] + label[:, 3:]], axis=1)
        [size] = sizes([record])
        if size is not None:
            corners = self._images.image.placement(size).boxes_in_model(corners)
        return np.concatenate([classes[:, np.newaxis], corners], axis=1)

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"detections": [{"class", "index", "score", "box"}, …]}``, the best first.

        ``box`` is [left, top, width, height] in pixels of the image, of a ready tensor in those
        of the model's input. ``class`` is the index where the class has no name.
        """
        found = self._read(outputs)
        return [
            self._told(boxes if size is None else self._in_image(boxes, size))
            for boxes, size in zip(found, sizes(records), strict=True)
        ]

    def condensed(self, outputs: Feeds, feeds: Feeds) -> Feeds:
        """``FOUND``: float64 (batch, 100, 6) of class, corners and score; 0 where there is none."""
        try:
            every = self._read(outputs)
        except (KeyError, ValueError, IndexError):
            return outputs  # of another shape: ``score`` finds nothing there
        rows = np.zeros((len(every), MOST, 6))
        for row, boxes in zip(rows, every, strict=True):
            columns = (boxes.classes, *boxes.corners.T, boxes.scores)
            row[: len(boxes)] = np.stack(columns, axis=1)
        return {FOUND: rows}

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, COCO's mAP divided by the origin's; without, mAP on what the origin finds.

        Only labelled records count where there are any. Boxes are compared in pixels of the
        model's input: scaling both axes changes no intersection over union. The lower end is that
        of a jackknife over groups of images, -1 for fewer than 8 images. Where the origin's mAP
        is 0, agreement counts.
        """
        labelled, agreed = _Pair(), _Pair()
        for batch in batches:
            theirs = self._read(batch.reference)
            mine = self._candidate(batch.outputs, len(theirs))
            agreed.add(mine, theirs, [boxes.take(boxes.scores >= SHOWN) for boxes in theirs])
            kept = [i for i, label in enumerate(batch.labels) if label is not None]
            truth = [_boxes(np.asarray(batch.labels[i])) for i in kept]
            labelled.add([mine[i] for i in kept], [theirs[i] for i in kept], truth)
        if not agreed.n:
            raise SamplesError("there are no samples to score with", "at least 1")
        if not labelled.n:
            return agreed.quality(AGREEMENT)
        if labelled.origin == 0:
            return agreed.quality(
                f"{AGREEMENT} (the labels prove nothing: the origin's mAP is 0 on them)"
            )
        return labelled.quality(METRIC)

    def needed(self, floor: float) -> int | None:
        return MIN_SAMPLES if floor <= 1 else None

    def _read(self, outputs: Mapping[str, np.ndarray]) -> list[Boxes]:
        if FOUND not in outputs:
            with np.errstate(all="ignore"):  # what is not finite is no detection
                return self._head.read(outputs, self._size)
        return [
            Boxes(rows[:, 1:5], rows[:, 5], rows[:, 0].astype(np.int64)).best(MOST)
            for rows in outputs[FOUND]
        ]

    def _candidate(self, outputs: Mapping[str, np.ndarray], images: int) -> list[Boxes]:
        """Nothing found where the outputs are missing or of another shape."""
        try:
            found = self._read(outputs)
        except (KeyError, ValueError, IndexError):
            found = []
        return found if len(found) == images else [_boxes(np.empty((0, 5)))] * images

    def _in_image(self, boxes: Boxes, size: Size) -> Boxes:
        placement = self._images.image.placement(size)
        return Boxes(placement.boxes_in_image(boxes.corners), boxes.scores, boxes.classes)

    def _told(self, boxes: Boxes) -> Prediction:
        shown = boxes.take(boxes.scores >= SHOWN)
        return {
            "detections": [
                {
                    "class": self._names[label] if 0 <= label < len(self._names) else label,
                    "index": label,
                    "score": score,
                    "box": [left, top, right - left, bottom - top],
                }
                for (left, top, right, bottom), score, label in zip(
                    shown.corners.tolist(),
                    shown.scores.tolist(),
                    shown.classes.tolist(),
                    strict=True,
                )
            ]
        }


class _Pair:
    """The candidate's and the origin's precision on one truth."""

    def __init__(self) -> None:
        self._mine, self._theirs = Precision(), Precision()
        self._first: Boxes | None = None
        self._varies = False

    @property
    def n(self) -> int:
        return len(self._theirs)

    @property
    def origin(self) -> float:
        return self._theirs.value()

    def add(self, mine: Sequence[Boxes], theirs: Sequence[Boxes], truth: Sequence[Boxes]) -> None:
        self._mine.add(mine, truth)
        self._theirs.add(theirs, truth)
        for boxes in truth:
            self._first = boxes if self._first is None else self._first
            self._varies = self._varies or not _alike(boxes, self._first)

    def quality(self, metric: str) -> Quality:
        origin, candidate = self._theirs.value(), self._mine.value()
        if origin == 0:  # no box in any truth
            told = f"{metric}, which proves nothing: there is no object in {self.n} samples"
            return Quality(float(candidate == 0), -1.0, self.n, told)
        value, low = candidate / origin, -1.0
        if self.n >= MIN_SAMPLES:
            low = max(-1.0, left_out_lower(value, self._without()))
        if not self._varies:
            metric += ", which proves nothing: all samples have the same objects"
            low = min(low, 0.0)
        known = (origin, candidate) if metric.startswith(METRIC) else (None, None)
        return Quality(value, low, self.n, metric, *known)

    def _without(self) -> list[float]:
        """The ratio with each group of images left out in turn."""
        groups = np.arange(self.n) % min(GROUPS, self.n)
        ratios = []
        for group in range(groups.max() + 1):
            kept = np.flatnonzero(groups != group).tolist()
            origin, candidate = self._theirs.value(kept), self._mine.value(kept)
            ratios.append(candidate / origin if origin else float(candidate == origin))
        return ratios


def _boxes(truth: np.ndarray) -> Boxes:
    """Rows of class and corners as certain detections."""
    return Boxes(truth[:, 1:], np.ones(len(truth)), truth[:, 0].astype(np.int64))


def _alike(a: Boxes, b: Boxes) -> bool:
    return np.array_equal(a.classes, b.classes) and np.array_equal(a.corners, b.corners)


def _shown(label: Label) -> str:
    return f"{label.dtype}{list(label.shape)}" if isinstance(label, np.ndarray) else repr(label)
