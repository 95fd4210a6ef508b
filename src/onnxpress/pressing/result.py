"""What a press found, as Python and as the JSON that the command line prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxpress.pressing.choice import Floor, Trial


@dataclass(frozen=True)
class Pressed:
    """The judged candidates, the choice and how it was made.

    ``chosen`` is None where nothing beats the baseline; ``bundle`` is None where none was written.
    ``quantization`` tells what int8 did to layers and tensors: of the chosen form, or else of the
    best one that calibrated.
    """

    source: str
    task: str
    verdict: str
    chosen: str | None
    reason: str
    floor: Floor
    objective: str
    batch: int
    threads: int
    rounds: int
    baseline: Mapping[str, object]
    candidates: tuple[Trial, ...]
    conversion: Mapping[str, object]
    journal: tuple[Mapping[str, object], ...]
    samples: Mapping[str, object]
    environment: Mapping[str, object]
    warnings: tuple[str, ...]
    quantization: Mapping[str, object] | None = None
    bundle: Path | None = None
    report: Path | None = None

    def to_dict(self) -> dict[str, object]:
        return {
            "source": self.source,
            "task": self.task,
            "verdict": self.verdict,
            "chosen": self.chosen,
            "reason": self.reason,
            "floor": self.floor.value,
            "floor_note": self.floor.note or None,
            "objective": self.objective,
            "batch": self.batch,
            "threads": self.threads,
            "rounds": self.rounds,
            "baseline": dict(self.baseline),
            "candidates": [trial.to_dict() for trial in self.candidates],
            "conversion": dict(self.conversion),
            "journal": [dict(entry) for entry in self.journal],
            "samples": dict(self.samples),
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
            "quantization": dict(self.quantization) if self.quantization else None,
            "bundle": str(self.bundle) if self.bundle else None,
            "report": str(self.report) if self.report else None,
        }


@dataclass(frozen=True)
class Planned:
    """What a press would do: nothing was measured or written."""

    source: str
    task: str
    floor: float | None
    samples: Mapping[str, object]
    forms: tuple[Mapping[str, object], ...]
    unavailable: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        return {
            "dry_run": True,
            "source": self.source,
            "task": self.task,
            "floor": self.floor,
            "samples": dict(self.samples),
            "forms": [dict(form) for form in self.forms],
            "unavailable": dict(self.unavailable),
        }
