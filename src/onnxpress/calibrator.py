"""The contract of what turns observed activations into quantisation ranges."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Range:
    """The values of one tensor that quantisation must represent: ``low <= high``, both finite."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


class Calibrator(abc.ABC):
    """Watches tensors, one batch after another, in memory that does not grow with their number."""

    api_version: ClassVar[int] = 1

    @abc.abstractmethod
    def observe(self, tensors: Mapping[str, np.ndarray]) -> None:
        """See one batch: tensor name → float array of any shape. Keeps no reference to it.

        NaN and infinity are ignored.
        """

    @abc.abstractmethod
    def ranges(self) -> dict[str, Range]:
        """Tensor name → range, over all that was observed. Empty arrays give no range."""
