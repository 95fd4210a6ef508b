"""Boxes with scores and classes, and the suppression of those that tell the same object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 0.01
"""What scores less is no detection: it would come after all others and change no precision."""

CANDIDATES = 1000
MOST = 100
"""Detections of one image that count, as in COCO's rules."""

OVERLAP = 0.6
"""Intersection over union above which the lower score of one class is suppressed."""


@dataclass(frozen=True)
class Boxes:
    """``corners`` float64 (n, 4) left, top, right, bottom; ``scores`` (n,); ``classes`` (n,)."""

    corners: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: np.ndarray) -> Boxes:
        return Boxes(self.corners[chosen], self.scores[chosen], self.classes[chosen])

    def best(self, count: int) -> Boxes:
        """The ``count`` with the highest scores, the highest first, all finite and above LEAST."""
        sound = np.flatnonzero(np.isfinite(self.corners).all(axis=1) & (self.scores >= LEAST))
        order = np.argsort(-self.scores[sound], kind="stable")[:count]
        return self.take(sound[order])

    def suppressed(self) -> Boxes:
        """Without those that overlap a better one of their class: greedy non-maximum suppression.

        Felzenszwalb et al. (2010), "Object detection with discriminatively trained part-based
        models", IEEE PAMI 32.
        """
        ordered = self.best(CANDIDATES)
        kept: list[int] = []
        alive = np.ones(len(ordered), bool)
        for index in range(len(ordered)):
            if not alive[index]:
                continue
            kept.append(index)
            if len(kept) == MOST:
                break
            same = ordered.classes == ordered.classes[index]
            alive &= ~(same & (overlaps(ordered.corners, ordered.corners[index]) > OVERLAP))
        return ordered.take(np.array(kept, np.int64))


def overlaps(corners: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) boxes with one box; 0 for a pair without area."""
    low, high = np.maximum(corners[:, :2], one[:2]), np.minimum(corners[:, 2:], one[2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(np.clip(corners[:, 2:] - corners[:, :2], 0, None), axis=1)
    union = area + np.prod(np.clip(one[2:] - one[:2], 0, None)) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))


def from_centres(boxes: np.ndarray) -> np.ndarray:
    """(…, 4) centre x, centre y, width, height as corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
