"""Where the pixels that a model sees lie in the image that they were made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Placement:
    """``model = image · scale + offset`` for each axis; ``image`` is the (height, width) of one.

    ``scale`` and ``offset`` are those of (y, x), in pixels.
    """

    image: Size
    scale: tuple[float, float]
    offset: tuple[int, int]

    def boxes_in_model(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 4) boxes (left, top, right, bottom) of the image, as the model sees them."""
        scale, offset = self._per_side()
        return np.asarray(boxes * scale + offset)

    def boxes_in_image(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 4) boxes (left, top, right, bottom) of the model, in the image, cut at its edge."""
        scale, offset = self._per_side()
        limit = np.array((*self.image[::-1], *self.image[::-1]))
        return np.asarray(np.clip((boxes - offset) / scale, 0, limit))

    def _per_side(self) -> tuple[np.ndarray, np.ndarray]:
        scale, offset = self.scale[::-1], self.offset[::-1]
        return np.array((*scale, *scale)), np.array((*offset, *offset))


def letterboxed(image: Size, size: Size) -> tuple[Size, tuple[int, int]]:
    """The size of ``image`` scaled to fit into ``size``, and (top, left) of it in the middle."""
    ratio = min(size[0] / image[0], size[1] / image[1])
    inner = (max(1, round(image[0] * ratio)), max(1, round(image[1] * ratio)))
    return inner, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
