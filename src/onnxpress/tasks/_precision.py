"""COCO's mean average precision, image by image in little memory, and of any part of the images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpress.errors import MissingExtra
from onnxpress.tasks._boxes import MOST, Boxes

ANY_AREA = (0, 1e10)


class Precision:
    """Matches of detections with the truth, of every image and class.

    Of a detection only its score stays, and which thresholds (intersection over union from 0.5 to
    0.95) it reaches. Lin et al. (2014), "Microsoft COCO: common objects in context", ECCV; the
    arithmetic is pycocotools'.
    """

    def __init__(self) -> None:
        self._images: list[dict[int, dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(self, found: Sequence[Boxes], truth: Sequence[Boxes]) -> None:
        """One batch. Raises ``MissingExtra`` without pycocotools."""
        first = len(self._images)
        images = list(range(first, first + len(truth)))
        self._images += [{} for _ in images]
        every = zip(found, truth, strict=True)
        classes = sorted({int(c) for pair in every for boxes in pair for c in boxes.classes})
        if not classes:
            return
        evaluator = _evaluator()
        evaluator.cocoGt = _dataset(images, truth, classes)
        evaluator.cocoDt = _dataset(images, found, classes)
        _set(evaluator, classes, images)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.evaluate()
        for matched in evaluator.evalImgs:
            if matched is not None:
                self._images[matched["image_id"]][matched["category_id"]] = {
                    "dtScores": np.asarray(matched["dtScores"], np.float32),
                    "dtMatches": matched["dtMatches"] > 0,
                    "dtIgnore": matched["dtIgnore"] > 0,
                    "gtIgnore": matched["gtIgnore"] > 0,
                }

    def value(self, kept: Sequence[int] | None = None) -> float:
        """The mean over classes and thresholds for the images ``kept``; 0 without any object."""
        images = [self._images[i] for i in (range(len(self)) if kept is None else kept)]
        classes = sorted(set().union(*images)) if images else []
        if not classes:
            return 0.0
        evaluator = _evaluator()
        _set(evaluator, classes, list(range(len(images))))
        evaluator.evalImgs = [image.get(label) for label in classes for image in images]
        evaluator._paramsEval = evaluator.params
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        precision = evaluator.eval["precision"]
        counted = precision[precision > -1]
        return float(counted.mean()) if counted.size else 0.0


def _evaluator() -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtra.of("pycocotools", "detection", "measures detectors") from None
    return COCOeval(iouType="bbox")


def _set(evaluator: Any, classes: list[int], images: list[int]) -> None:
    parameters = evaluator.params
    parameters.catIds, parameters.imgIds = classes, images
    parameters.areaRng, parameters.areaRngLbl = [ANY_AREA], ["all"]
    parameters.maxDets = [MOST]


def _dataset(images: list[int], every: Sequence[Boxes], classes: list[int]) -> Any:
    from pycocotools.coco import COCO

    annotations: list[dict[str, object]] = []
    for image, boxes in zip(images, every, strict=True):
        sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
        for corner, size, score, label in zip(
            boxes.corners, sizes, boxes.scores, boxes.classes, strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # 0 would mean that nothing matched
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [*corner[:2].tolist(), *size.tolist()],
                    "area": float(np.prod(size)),
                    "score": float(score),
                    "iscrowd": 0,
                }
            )
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": label} for label in classes],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.createIndex()
    return dataset
