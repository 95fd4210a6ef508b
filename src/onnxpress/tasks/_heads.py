"""The forms of a detector's outputs, each read into boxes in pixels of the model's input."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxpress.placement import Size
from onnxpress.signature import Signature, TensorSpec
from onnxpress.tasks._boxes import MOST, Boxes, from_centres

FORMS = (
    "outputs logits and pred_boxes (DETR), or boxes, scores and labels (after suppression), or "
    "one of rank 3 (batch, anchors, 4 + classes)"
)


class Head(abc.ABC):
    """``classes`` is how many there are, None where the outputs do not tell."""

    classes: int | None

    @abc.abstractmethod
    def read(self, outputs: Mapping[str, np.ndarray], size: Size) -> list[Boxes]:
        """What is detected in each image of a batch; ``size`` is the (height, width) of the input.

        Raises ``KeyError`` where an output is missing.
        """


@dataclass(frozen=True)
class Queries(Head):
    """``logits`` (batch, queries, classes + 1) and ``pred_boxes`` (batch, queries, 4).

    The last class is "no object"; boxes are centre x, y, width, height as shares of the input.
    One query is one object, so nothing is suppressed. Carion et al. (2020), "End-to-end object
    detection with transformers", ECCV.
    """

    classes: int | None

    def read(self, outputs: Mapping[str, np.ndarray], size: Size) -> list[Boxes]:
        logits = outputs["logits"].astype(np.float64)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = (powers / powers.sum(axis=-1, keepdims=True))[..., :-1]
        corners = from_centres(outputs["pred_boxes"].astype(np.float64))
        corners *= np.array((*size[::-1], *size[::-1]))
        best = scores.argmax(axis=-1)
        highest = scores.max(axis=-1)
        return [Boxes(*found).best(MOST) for found in zip(corners, highest, best, strict=True)]


@dataclass(frozen=True)
class Selected(Head):
    """``boxes`` (batch, n, 4) as corners in pixels, ``scores`` and ``labels`` (batch, n)."""

    boxes: str
    scores: str
    labels: str
    classes: int | None = None

    def read(self, outputs: Mapping[str, np.ndarray], size: Size) -> list[Boxes]:
        corners = outputs[self.boxes].astype(np.float64)
        scores = outputs[self.scores].astype(np.float64)
        labels = np.nan_to_num(outputs[self.labels].astype(np.float64), nan=-1).astype(np.int64)
        return [Boxes(*found).best(MOST) for found in zip(corners, scores, labels, strict=True)]


@dataclass(frozen=True)
class Anchors(Head):
    """One output (batch, anchors, 4 + classes), or (batch, 4 + classes, anchors) if ``turned``.

    Boxes are centre x, y, width, height in pixels; scores are probabilities, and with
    ``objectness`` those of a class follow one that there is an object, by which they are
    multiplied. Every score of an anchor may be a detection; suppression is class by class.
    """

    output: str
    classes: int | None
    turned: bool
    objectness: bool

    def read(self, outputs: Mapping[str, np.ndarray], size: Size) -> list[Boxes]:
        found = outputs[self.output].astype(np.float64)
        found = found.transpose(0, 2, 1) if self.turned else found
        return [self._image(rows) for rows in found]

    def _image(self, rows: np.ndarray) -> Boxes:
        scores = rows[:, 5:] * rows[:, 4:5] if self.objectness else rows[:, 4:]
        anchors, classes = np.indices(scores.shape).reshape(2, -1)
        corners = from_centres(rows[:, :4])
        return Boxes(corners[anchors], scores.reshape(-1), classes).suppressed()


def head_of(signature: Signature, names: int) -> Head | None:
    """The form that the outputs have; ``names`` is how many classes are known by name, or 0."""
    ranks = {spec.name: len(spec.shape) for spec in signature.outputs if spec.shape is not None}
    if ranks.get("logits") == ranks.get("pred_boxes") == 3:
        logits = next(spec for spec in signature.outputs if spec.name == "logits")
        last = _dim(logits, 2)
        return Queries(None if last is None else last - 1)
    labels = next((name for name in ("labels", "classes") if ranks.get(name) == 2), None)
    if ranks.get("boxes") == 3 and ranks.get("scores") == 2 and labels is not None:
        return Selected("boxes", "scores", labels)
    floats = [spec for spec in signature.outputs if spec.dtype.startswith(("float", "bfloat"))]
    raw = [spec for spec in floats if ranks.get(spec.name) == 3]
    return _anchors(raw[0], names) if len(raw) == 1 else None


def natural(signature: Signature) -> bool:
    """Whether the outputs can be nothing but a detector's: a raw one must be named so."""
    head = head_of(signature, 0)
    if isinstance(head, Anchors):
        return any(word in head.output.lower() for word in ("box", "detection"))
    return head is not None


def _anchors(spec: TensorSpec, names: int) -> Anchors | None:
    """By the number of names where it is known: 5 more than that have objectness.

    Without names the shorter of two known axes holds the values of an anchor.
    """
    rows, columns = _dim(spec, 1), _dim(spec, 2)
    for axis, size in ((2, columns), (1, rows)):
        if names and size in (names + 4, names + 5):
            return Anchors(spec.name, names, axis == 1, size == names + 5)
    turned = rows is not None and (columns is None or rows < columns)
    values = rows if turned else columns
    if names or values is None or values < 5:
        return None
    return Anchors(spec.name, values - 4, turned, False)


def _dim(spec: TensorSpec, axis: int) -> int | None:
    assert spec.shape is not None
    size = spec.shape[axis]
    return size if isinstance(size, int) else None
