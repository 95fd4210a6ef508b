"""Tuned: which settings run a model fastest here, what was tried and what mattered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnxpress.settings import Settings
from onnxpress.task import Quality
from onnxpress.verbs.measured import Ratio


@dataclass(frozen=True)
class Tried:
    """Settings that were run.

    ``changes`` is what they change of the engine's own. ``speedup`` is relative to the baseline,
    from the longest measurement of the ``rungs`` that it came through; it is None where ``reason``
    says why it was not timed. Milliseconds are of one call, or what a call costs where several
    run at once.
    """

    name: str
    settings: Settings
    knobs: tuple[str, ...] = ()
    changes: Mapping[str, str] | None = None
    rungs: int = 0
    latency_ms: float | None = None
    throughput_per_s: float | None = None
    speedup: Ratio | None = None
    reason: str = ""

    @property
    def speed(self) -> float:
        """How many times as fast as the baseline; 0 where it was not timed."""
        return self.speedup.value if self.speedup else 0.0

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "settings": self.settings.to_dict(),
            "changes": dict(self.changes or {}),
            "rungs": self.rungs,
            "latency_ms": self.latency_ms,
            "throughput_per_s": self.throughput_per_s,
            "speedup": self.speedup.to_dict() if self.speedup else None,
            "tie": bool(self.speedup and self.speedup.tie),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Effect:
    """What one change alone did to the defaults of ``engine``."""

    knob: str
    engine: str
    changes: Mapping[str, str]
    speedup: Ratio

    @property
    def text(self) -> str:
        """``onnxruntime: threads=1 takes 1.84 times as long``."""
        what = ", ".join(f"{key}={value}" for key, value in self.changes.items())
        times = self.speedup.value
        if self.speedup.tie:
            told = "makes no difference"
        else:
            told = f"is {times:.2f}× as fast" if times > 1 else f"takes {1 / times:.2f}× as long"
        return f"{self.engine}: {what} {told}"

    def to_dict(self) -> dict[str, object]:
        return {
            "knob": self.knob,
            "engine": self.engine,
            "changes": dict(self.changes),
            "speedup": self.speedup.to_dict(),
            "tie": self.speedup.tie,
            "text": self.text,
        }


@dataclass(frozen=True)
class Tuned:
    """The ``best`` settings, the baseline's own where nothing beats them beyond the noise.

    ``speedup`` is that of the best over ``baseline``, the settings that would run without tuning.
    """

    best: Settings
    baseline: Settings
    speedup: Ratio
    trials: tuple[Tried, ...]
    mattered: tuple[Effect, ...]
    objective: str
    batch: int
    quality: Quality | None
    budget_s: float
    spent_s: float
    environment: Mapping[str, object]
    warnings: tuple[str, ...] = ()

    @property
    def improved(self) -> bool:
        return replace(self.best, custom_ops=None) != replace(self.baseline, custom_ops=None)

    def to_dict(self) -> dict[str, object]:
        return {
            "best": self.best.to_dict(),
            "baseline": self.baseline.to_dict(),
            "improved": self.improved,
            "speedup": self.speedup.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
            "mattered": [effect.to_dict() for effect in self.mattered],
            "objective": self.objective,
            "batch": self.batch,
            "quality": self.quality.to_dict() if self.quality else None,
            "budget_s": self.budget_s,
            "spent_s": self.spent_s,
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
        }
