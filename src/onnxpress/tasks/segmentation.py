"""Segmentation: images in, a class for each pixel out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import Processing, image_size
from onnxpress.samples import Label, Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.similarity import MIN_SAMPLES
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._groups import Groups
from onnxpress.tasks._image_input import ImageInput, has_image_input, is_ready, sizes
from onnxpress.tasks._image_output import is_map, may_be_image
from onnxpress.tasks._masks import (
    NONE,
    VOID,
    areas,
    class_map,
    counts,
    known_classes,
    mean_iou,
    read_mask,
    resized,
    to_image,
    to_model,
)

UNTOLD_CLASSES = 256
"""How many classes an output of class numbers may have that nobody named."""


class Segmentation(Task):
    """One image input of rank 4, and scores of classes or the classes themselves for each pixel.

    Float (batch, classes, h, w), with one class: inside where it is positive; with the classes
    last where the image's channels are last; or integers (batch, h, w). The first output of that
    form counts. Maps may be smaller than the image that the model takes.
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        output = _output(signature)
        return (
            kind == "images"
            and output is not None
            and has_image_input(signature)
            and not may_be_image(signature)
        )

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _output(signature)
        if len(signature.inputs) != 1 or output is None:
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                "one image input, and a float output (batch, classes, height, width) or whole "
                "class numbers (batch, height, width)",
                "choose another --task",
            )
        images = ImageInput(signature, processing)
        return _Bound(images, output, processing.labels if processing else ())


class _Bound(Bound):
    pictures = True

    def __init__(self, images: ImageInput, output: TensorSpec, labels: tuple[str, ...]) -> None:
        assert images.image.layout is not None
        assert output.shape is not None
        self.encoder = self._images = images
        self._output, self._layout = output, images.image.layout
        scores = len(output.shape) == 4
        count = output.shape[1 if self._layout == "nchw" else 3] if scores else len(labels)
        if not isinstance(count, int):
            raise InputError(f"output {output}", "a fixed number of classes", "see --shape")
        self._binary = scores and count == 1
        self._classes = 2 if self._binary else count or UNTOLD_CLASSES
        if labels and len(labels) != self._classes:
            found = f"{len(labels)} class names for output {output}"
            raise InputError(found, f"{self._classes} names")
        self._labels = labels
        seen = images.image.crop or images.image.size
        assert seen is not None
        self._seen = seen

    def truth(self, record: Record) -> Label | None:
        """The mask as the model sees the image: int32 (height, width), -1 where nothing is told.

        A mask is a file or an array of the image's size; with a ready tensor, of any size. 255 is
        no class. In a model of one score per pixel all but 0 is inside.
        """
        if record.label is None:
            return None
        mask = read_mask(record.label, record.name)
        mask = known_classes(mask, self._classes, binary=self._binary, name=record.name)
        if is_ready(record):
            return mask
        size = image_size(record.value)
        if size != mask.shape:
            told = "×".join(map(str, size or ()))
            raise SamplesError(
                f"the mask of '{record.name}' is {mask.shape[0]}×{mask.shape[1]} and its image "
                f"{told}",
                "one height×width for both",
            )
        return to_model(mask, self._images.image.placement(mask.shape), self._seen)

    def condensed(self, outputs: Feeds, feeds: Feeds) -> Feeds:
        """The class of each pixel, in a hundredth of the scores' bytes."""
        maps = self._maps(outputs[self._output.name])
        return {self._output.name: maps.astype(np.int16) if self._classes < 1 << 15 else maps}

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"size": [h, w], "shares": {class: share of the pixels}}``, the largest share first."""
        return [self.told(row) for row in self.rows(outputs, records)]

    def told(self, row: object) -> Prediction:
        mask = np.asarray(row)
        found = areas(np.where(mask == _void(mask.dtype), NONE, mask), self._classes)
        order = [int(index) for index in np.argsort(-found, kind="stable") if found[index]]
        names = {index: self._labels[index] if self._labels else str(index) for index in order}
        shares = {names[index]: float(found[index] / mask.size) for index in order}
        return {"size": list(mask.shape), "shares": shares}

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """Masks as large as the images: uint8, or uint16 for more than 255 classes.

        The type's largest number is no class: what is not a number, or outside of the crop.
        """
        maps = self._maps(outputs[self._output.name])
        place = self._images.image.placement
        return [
            self._compact(mask if size is None else to_image(mask, place(size), self._seen))
            for mask, size in zip(maps, sizes(records), strict=True)
        ]

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, mIoU divided by the origin's; without, mIoU against the origin's masks.

        Of all samples' pixels together, as large as the model's maps, over the classes that occur.
        Only labelled records count where there are any. The interval is a jackknife over groups of
        samples. Where the origin is not surely better than chance, its masks count instead. The
        lower end is 0 where all pixels are of one class: a constant would pass as well.
        """
        labelled, agreed = Groups(5 * self._classes), Groups(3 * self._classes)
        for batch in batches:
            theirs = self._maps(batch.reference[self._output.name])
            mine = self._maps(batch.outputs.get(self._output.name, np.empty(0)))
            if mine.shape != theirs.shape:
                mine = np.full_like(theirs, NONE)
            for a, r, label in zip(mine, theirs, batch.labels, strict=True):
                agreed.add(np.concatenate([self._counts(a, r), self._areas(r)]))
                if label is not None:
                    assert isinstance(label, np.ndarray)
                    truth = resized(label, r.shape)
                    parts = (self._counts(a, truth), self._areas(truth), self._counts(r, truth))
                    labelled.add(np.concatenate(parts))
        if not agreed.n:
            raise SamplesError("there are no samples to score with", "at least 8")
        return self._with_labels(labelled) or self._agreement(agreed, labelled)

    def needed(self, floor: float) -> int | None:
        return MIN_SAMPLES if floor <= 1 else None

    def _with_labels(self, groups: Groups) -> Quality | None:
        """None where there are no labels, or they do not tell the origin from a constant."""
        total = groups.total()
        if not groups.n or _gain(self._parts(total)) <= 0:
            return None
        if groups.n >= MIN_SAMPLES and groups.lower(lambda s: _gain(self._parts(s))) <= 0:
            return None
        right, claimed, truth, their_right, their_claimed = self._parts(total)
        origin = mean_iou(their_right, their_claimed, truth)
        candidate = mean_iou(right, claimed, truth)
        low = groups.lower(lambda sums: _ratio(self._parts(sums)))
        metric = "mIoU / origin's mIoU"
        quality = Quality(candidate / origin, low, groups.n, metric, origin, candidate)
        return _unproven_if_one_class(quality, truth, "the labels have")

    def _agreement(self, groups: Groups, labelled: Groups) -> Quality:
        metric = "mIoU with the origin's masks"
        if labelled.n:
            _, _, truth, right, claimed = self._parts(labelled.total())
            reached, chance = mean_iou(right, claimed, truth), _chance(claimed, truth)
            metric += (
                f" (the labels prove nothing: the origin has mIoU {reached:.3f} on them, and "
                f"chance alone {chance:.3f})"
            )

        def statistic(sums: np.ndarray) -> float:
            right, claimed, theirs = self._parts(sums)
            return mean_iou(right, claimed, theirs)

        total = groups.total()
        quality = Quality(statistic(total), groups.lower(statistic), groups.n, metric)
        return _unproven_if_one_class(quality, self._parts(total)[-1], "the origin says")

    def _maps(self, output: np.ndarray) -> np.ndarray:
        return class_map(output, self._output, self._layout)

    def _counts(self, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return counts(mask, truth, self._classes).reshape(-1)

    def _areas(self, mask: np.ndarray) -> np.ndarray:
        return areas(mask, self._classes)

    def _parts(self, sums: np.ndarray) -> np.ndarray:
        """(parts, classes)."""
        return sums.reshape(-1, self._classes)

    def _compact(self, mask: np.ndarray) -> np.ndarray:
        dtype = np.dtype(np.uint8 if self._classes <= VOID else np.uint16)
        return np.where(mask == NONE, _void(dtype), mask).astype(dtype)


def _void(dtype: np.dtype) -> int:
    return int(np.iinfo(dtype).max)


def _ratio(parts: np.ndarray) -> float:
    right, claimed, truth, their_right, their_claimed = parts
    origin = mean_iou(their_right, their_claimed, truth)
    return mean_iou(right, claimed, truth) / origin if origin else 0.0


def _gain(parts: np.ndarray) -> float:
    """By how much the origin's mIoU is above chance, where there is more than one class."""
    _, _, truth, right, claimed = parts
    several = int((truth > 0).sum()) > 1
    return mean_iou(right, claimed, truth) - (_chance(claimed, truth) if several else 0.0)


def _chance(claimed: np.ndarray, truth: np.ndarray) -> float:
    """The mIoU of masks that claim as many pixels, wherever those are in truth."""
    return mean_iou(claimed * truth / max(float(truth.sum()), 1.0), claimed, truth)


def _unproven_if_one_class(quality: Quality, truth: np.ndarray, who: str) -> Quality:
    if int((truth > 0).sum()) > 1:
        return quality
    told = f"class {int(truth.argmax())}" if truth.any() else "no class"
    metric = f"{quality.metric}, which proves nothing: {who} {told} everywhere"
    return replace(quality, low=min(quality.low, 0.0), metric=metric)


def _output(signature: Signature) -> TensorSpec | None:
    return next((spec for spec in signature.outputs if is_map(spec)), None)
