"""The smallest and largest value that was ever seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxpress.calibrator import Calibrator, Range


class MinMax(Calibrator):
    """range(x) = [min x, max x] over all batches; two numbers per tensor are kept."""

    def __init__(self) -> None:
        self._ranges: dict[str, Range] = {}

    def observe(self, tensors: Mapping[str, np.ndarray]) -> None:
        for name, array in tensors.items():
            finite = array if np.isfinite(array).all() else array[np.isfinite(array)]
            if finite.size == 0:
                continue
            low, high = float(finite.min()), float(finite.max())
            old = self._ranges.get(name, Range(low, high))
            self._ranges[name] = Range(min(low, old.low), max(high, old.high))

    def ranges(self) -> dict[str, Range]:
        return dict(self._ranges)
