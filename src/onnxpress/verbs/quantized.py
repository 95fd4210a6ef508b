"""What one quantisation gained and what it cost, as measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxpress.engine import Executed
from onnxpress.machine import this_machine
from onnxpress.model import Model
from onnxpress.settings import Settings
from onnxpress.task import DEFAULT_FLOOR, Quality
from onnxpress.verbs.comparison import FLOAT, QUANTIZED
from onnxpress.verbs.executed import int8_macs_share
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.schemes import Scheme
from onnxpress.verbs.sensitivity import Ranking
from onnxpress.verbs.slower import conversions, why_not_faster


@dataclass(frozen=True)
class Quantized:
    """The quantised model, measured from its saved file beside the float one.

    ``holds`` is None where no floor was asked for. ``kept_float`` maps the layers that stayed
    in float to why. ``executed`` are the kernels that the engine ran, ``macs`` maps the float
    model's layers to their multiply-adds (None where some are not known). ``recipe`` made the
    model, ``sensitivity`` ranks its layers where it was asked for or layers had to be kept.
    """

    model: Model
    scheme: Scheme
    settings: Settings
    before_bytes: int
    after_bytes: int
    measured: Measured
    quality: Quality
    floor: float | None
    kept_float: Mapping[str, str]
    calibration_samples: int
    peak_rss_bytes: int
    executed: tuple[Executed, ...]
    macs: Mapping[str, int] | None
    random_samples: bool
    recipe: str
    sensitivity: Ranking | None = None
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool | None:
        return None if self.floor is None else self.quality.low >= self.floor

    @property
    def ruined(self) -> bool:
        """Whether static quantisation silently would have ruined it: no floor was asked for."""
        low = self.quality.value < DEFAULT_FLOOR
        return low and self.floor is None and "static" in self.scheme.parts

    @property
    def int8_macs_share(self) -> float | None:
        """The share of the multiply-adds that the engine ran in int8, 0 to 1, where it is known."""
        return None if self.macs is None else int8_macs_share(self.executed, self.macs)

    @property
    def not_faster_because(self) -> str:
        """Empty where it is faster beyond the noise."""
        rows = {row.name: row for row in self.measured.rows}
        speedup = rows[QUANTIZED].speedup
        if speedup is not None and speedup.low > 1:
            return ""
        return why_not_faster(
            this_machine(),
            rows[FLOAT].latency_ms.typical,
            self.executed,
            self.int8_macs_share if self.scheme.multiplies_bytes else None,
            integers=self.scheme.integers,
        )

    def to_dict(self) -> dict[str, object]:
        rows = {row.name: row for row in self.measured.rows}
        speedup = rows[QUANTIZED].speedup
        return {
            "scheme": self.scheme.name,
            "recipe": self.recipe,
            "engine": self.settings.engine,
            "settings": self.settings.to_dict(),
            "before": {
                "size_bytes": self.before_bytes,
                "latency_ms": rows[FLOAT].latency_ms.to_dict(),
            },
            "after": {
                "size_bytes": self.after_bytes,
                "latency_ms": rows[QUANTIZED].latency_ms.to_dict(),
            },
            "quality": self.quality.to_dict(),
            "floor": self.floor,
            "holds": self.holds,
            "faster": not self.not_faster_because,
            "not_faster_because": self.not_faster_because,
            "speedup": speedup.to_dict() if speedup else None,
            "kept_float": [{"node": name, "why": why} for name, why in self.kept_float.items()],
            "calibration": {
                "samples": self.calibration_samples,
                "peak_rss_bytes": self.peak_rss_bytes,
            },
            "sensitivity": None if self.sensitivity is None else self.sensitivity.to_dict(),
            "executed": {
                "int8_macs_share": self.int8_macs_share,
                "conversions": conversions(self.executed),
            },
            "random_samples": self.random_samples,
            "warnings": list(self.warnings),
        }
