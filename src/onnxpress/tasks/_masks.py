"""Class maps: read off a model's output and off label files, placed, counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.placement import Placement, Size
from onnxpress.processing import UNREADABLE
from onnxpress.signature import TensorSpec

VOID = 255
"""What unlabelled pixels have in label files, as in PASCAL VOC and Cityscapes."""

NONE = -1
"""No class: an unlabelled pixel, one that is not a number, one outside of the model's crop."""


def class_map(output: np.ndarray, spec: TensorSpec, layout: str) -> np.ndarray:
    """int32 (batch, h, w), ``NONE`` where a score is NaN.

    From scores (batch, classes, h, w), or with the classes last where ``layout`` is ``nhwc``: the
    highest. From one score a pixel: whether it is positive. From integers (batch, h, w): as is.
    """
    if output.dtype.kind in "iu" and output.ndim == 3:
        return output.astype(np.int32)
    assert spec.shape is not None
    if output.ndim != len(spec.shape) or output.dtype.kind in "iu":
        return np.full((len(output), 1, 1), NONE, np.int32)
    if output.ndim == 4 and output.dtype.kind == "V":  # bfloat16 is not NumPy's own
        output = output.astype(np.float32)
    axis = 1 if layout == "nchw" else 3
    broken = np.isnan(output).any(axis=axis)
    one = output.shape[axis] == 1
    found = (output > 0).squeeze(axis) if one else output.argmax(axis=axis)
    return np.asarray(np.where(broken, NONE, found), np.int32)


def read_mask(label: object, name: str) -> np.ndarray:
    """A label's class numbers as they are: (h, w). Raises ``SamplesError`` naming the record."""
    mask = _pixels(label, name) if isinstance(label, Path) else label
    if isinstance(mask, np.ndarray) and mask.ndim == 3 and 1 in (mask.shape[0], mask.shape[2]):
        mask = mask.squeeze(2 if mask.shape[2] == 1 else 0)
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "iub":
        told = f"{mask.dtype}{list(mask.shape)}" if isinstance(mask, np.ndarray) else repr(mask)
        raise SamplesError(
            f"the label of '{name}' is {told}", "a mask (height, width) of whole class numbers"
        )
    return np.asarray(mask, np.int32)


def known_classes(mask: np.ndarray, classes: int, *, binary: bool, name: str) -> np.ndarray:
    """The mask with ``NONE`` where it is negative, or ``VOID`` and the model has no such class.

    ``binary``: all but 0 is class 1. Raises ``SamplesError`` for a class that the model lacks.
    """
    if binary:
        return np.asarray(mask != 0, np.int32)
    unlabelled = (mask < 0) | ((mask == VOID) & (classes <= VOID))
    mask = np.asarray(np.where(unlabelled, NONE, mask))
    if mask.max(initial=NONE) >= classes:
        raise SamplesError(
            f"the mask of '{name}' has class {mask.max()}",
            f"classes from 0 to {classes - 1}, and {VOID} for pixels without",
        )
    return mask


def to_model(mask: np.ndarray, placement: Placement, size: Size) -> np.ndarray:
    """An image's mask as the model sees it, (height, width) ``size``, by nearest neighbour."""
    rows, columns = (
        np.floor((np.arange(side) + 0.5 - offset) / scale).astype(int)
        for side, offset, scale in zip(size, placement.offset, placement.scale, strict=True)
    )
    return _taken(mask, rows, columns)


def to_image(mask: np.ndarray, placement: Placement, size: Size) -> np.ndarray:
    """The model's mask over the whole image; ``size`` is that of what the model sees."""
    rows, columns = (
        np.floor(((np.arange(side) + 0.5) * scale + offset) * cells / seen).astype(int)
        for side, offset, scale, cells, seen in zip(
            placement.image, placement.offset, placement.scale, mask.shape, size, strict=True
        )
    )
    return _taken(mask, rows, columns)


def resized(mask: np.ndarray, size: Size) -> np.ndarray:
    """(height, width) ``size``, by nearest neighbour."""
    rows, columns = (
        ((np.arange(side) + 0.5) * cells / side).astype(int)
        for side, cells in zip(size, mask.shape, strict=True)
    )
    return _taken(mask, rows, columns)


def counts(mask: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """float64 (2, classes) over the pixels that ``truth`` labels: those right, those claimed."""
    labelled = truth >= 0
    mine, right = mask[labelled], truth[labelled & (mask == truth)]
    claimed = mine[(mine >= 0) & (mine < classes)]
    return np.stack([areas(right, classes), areas(claimed, classes)])


def areas(mask: np.ndarray, classes: int) -> np.ndarray:
    """float64 (classes,): how many pixels each class has."""
    known = mask[(mask >= 0) & (mask < classes)].reshape(-1)
    return np.bincount(known, minlength=classes).astype(np.float64)


def mean_iou(right: np.ndarray, claimed: np.ndarray, truth: np.ndarray) -> float:
    """The mean of intersection over union, over the classes that ``truth`` has pixels of.

    Everingham et al. (2010), "The PASCAL visual object classes (VOC) challenge", IJCV 88.
    """
    there = truth > 0
    if not there.any():
        return 0.0
    return float((right[there] / (claimed + truth - right)[there]).mean())


def _taken(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows and columns by index; ``NONE`` for those that are not there."""
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, np.newaxis] & (
        (columns >= 0) & (columns < mask.shape[1])
    )
    picked = mask[np.ix_(rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1))]
    return np.where(inside, picked, NONE)


def _pixels(path: Path, name: str) -> np.ndarray:
    """The pixels as they are stored: a palette's are its indices, which are the classes."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except UNREADABLE as error:
        raise SamplesError(
            f"the mask of '{name}', {path.name}, cannot be read ({error})", "a whole image"
        ) from error
