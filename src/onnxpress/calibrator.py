"""The contract of what turns observed activations into quantisation ranges."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from onnxpress.observed import Observed


@dataclass(frozen=True)
class Range:
    """The values of one tensor that quantisation must represent: ``low <= high``, both finite."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Calibrator(abc.ABC):
    """Chooses a range from what was observed. Its fields are its flags.

    Observation keeps what every calibrator needs, so one pass over the samples serves them all.
    """

    api_version: ClassVar[int] = 1

    @abc.abstractmethod
    def range(self, seen: Observed, dtype: str) -> Range:
        """The values to represent on the grid of ``dtype``: uint8, int8, uint16 or int16.

        Within what was seen, never wider. ``seen`` is not empty. Unsigned grids are asymmetric,
        signed ones symmetric about 0: see ``quantization.activation_grid``.
        """
