"""Decides which candidates hold the floor, which is the fastest, and says so in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxpress.errors import SamplesError
from onnxpress.machine import this_machine
from onnxpress.pressing.trial import ORIGIN, Built
from onnxpress.settings import Settings
from onnxpress.task import DEFAULT_FLOOR, Bound, Quality
from onnxpress.verbs.measured import Measured, Row
from onnxpress.verbs.slower import why_not_faster

EXACT = "float32"
FINALISTS = 3
"""How many forms are tuned."""


@dataclass(frozen=True)
class Floor:
    """The quality to keep, at the lower end of its interval, and a word where we chose it."""

    value: float
    note: str = ""


def early_floor(asked: float | None, bound: Bound, scoring: int) -> None:
    """Raise ``SamplesError`` where not even a perfect candidate could prove ``asked``."""
    if asked is None or asked <= 0:
        return
    needed = bound.needed(asked)
    if needed is None or needed > scoring:
        raise _unprovable(asked, scoring, needed, bound.provable(scoring))


def floor_of(asked: float | None, bound: Bound, origin: Quality) -> Floor:
    """The floor to use. ``origin`` is the quality of the origin against itself: a perfect one.

    Without a wish it is 0.99, or what these samples can prove at most. Raises ``SamplesError``
    where the samples cannot prove the wish.
    """
    if origin.low <= 0 and (asked is None or asked > 0):
        right = "" if origin.origin is None else f"; the original gets {origin.origin:.1%} right"
        fix = "give --floor 0 to look at speed alone"
        if origin.origin is not None:
            fix = f"check that the labels' order is that of the model's classes, or {fix}"
        raise SamplesError(
            f"{origin.n} scoring samples prove no quality ({origin.metric}{right})",
            "more, or more varied samples",
            fix,
        )
    if asked is None:
        if origin.low >= DEFAULT_FLOOR:
            return Floor(DEFAULT_FLOOR)
        needed = bound.needed(DEFAULT_FLOOR)
        return Floor(
            max(origin.low, 0.0),
            f"{origin.n} scoring samples can prove {max(origin.low, 0.0):.4f} at most, which is "
            f"the floor used; {DEFAULT_FLOOR} needs about {needed}",
        )
    if asked > 0 and origin.low < asked:
        needed = None if asked >= 1 else math.ceil(origin.n * (1 - origin.low) / (1 - asked))
        raise _unprovable(asked, origin.n, needed, origin.low)
    return Floor(asked)


def _unprovable(asked: float, count: int, needed: int | None, provable: float) -> SamplesError:
    if needed is None:
        return SamplesError(
            f"--floor {asked:g} cannot be proven by any number of samples", "a floor below 1"
        )
    at_least = max(needed, count + 1)
    return SamplesError(
        f"--floor {asked:g} cannot be proven with {count} scoring samples",
        f"at least {at_least} of them (others of the samples, 128 at most, calibrate)",
        f"give more samples or --floor {max(0.0, provable - 5e-4):.3f}",
    )


@dataclass(frozen=True)
class Trial:
    """One candidate, judged. ``row`` is None where it could not be built, opened or run.

    ``file`` is its name in the workspace at first, and relative to the bundle in a result.
    """

    name: str
    file: str | None
    settings: Settings
    requested: str
    requires_isa: tuple[tuple[str, ...], ...]
    row: Row | None
    ok: bool
    reason: str

    def to_dict(self) -> dict[str, object]:
        row = self.row.to_dict() if self.row else dict.fromkeys(_ROW_KEYS)
        return {
            **row,
            "name": self.name,
            "file": self.file,
            "engine": self.settings.engine,
            "settings": self.settings.to_dict(),
            "requested": self.requested,
            "tie": bool(self.row and self.row.tie),
            "ok": self.ok,
            "reason": self.reason,
        }


_ROW_KEYS = (
    "executed", "batch", "latency_ms", "throughput_per_s", "load_ms", "peak_rss_bytes",
    "size_bytes", "quality", "speedup",
)  # fmt: skip


def judge(built: list[Built], measured: Measured, floor: Floor) -> list[Trial]:
    """Every form with what was found of it, and whether it may be chosen: ``ok``, or why not."""
    rows = {row.name: row for row in measured.rows}
    floats: dict[str, Row] = {}
    for item in built:
        if item.form.requested == EXACT and item.form.name in rows:
            floats.setdefault(item.form.settings.engine, rows[item.form.name])
    trials = []
    for item in built:
        name, row = item.form.name, rows.get(item.form.name)
        reason = item.reason or measured.failures.get(name, "") or _reason(row, floor)
        trials.append(
            Trial(
                name=name,
                file=item.path.name if item.path else None,
                settings=item.form.settings,
                requested=item.form.requested,
                requires_isa=item.form.requires_isa,
                row=row,
                ok=not reason,
                reason=reason or _slow(row, floats.get(item.form.settings.engine), measured),
            )
        )
    return trials


def _reason(row: Row | None, floor: Floor) -> str:
    if row is None or row.quality is None:
        return "it was not measured"
    quality = row.quality
    if not quality.low >= floor.value:
        return f"quality {quality.value:.4f}, at worst {quality.low:.4f}, is below the floor"
    return ""


def _slow(row: Row | None, in_float: Row | None, measured: Measured) -> str:
    """Why ``row``, in fewer bits, is not faster than the same engine in float; empty where it is.

    Within the noise is not faster.
    """
    if row is None or in_float is None or row.requested == EXACT:
        return ""
    if measured.compare(row.name, in_float.name).low > 1:
        return ""
    integers = row.requested == "int8"
    share = 0.0 if integers and "int8" not in row.executed else None
    before = in_float.latency_ms.typical
    why = why_not_faster(this_machine(), before, (), share, integers=integers)
    return f"it is not faster than {in_float.name}: {why}"


def fastest(trials: list[Trial]) -> Trial | None:
    """The one with the highest speed-up of those that hold the floor and beat the baseline.

    Throughput is the batch over the latency, so one order serves both objectives.
    """
    beating = [trial for trial in trials if beats(trial)]
    return max(beating, key=speedup_of, default=None)


def finalists(trials: list[Trial]) -> list[Trial]:
    """The few fastest that hold the floor and beat the baseline: worth tuning."""
    return sorted(filter(beats, trials), key=speedup_of, reverse=True)[:FINALISTS]


def most_exact(quick: Trial | None, trials: list[Trial], measured: Measured) -> Trial | None:
    """``quick``, or the float32 form that the rounds do not tell from it.

    What is not faster beyond the noise pays for no quality.
    """
    if quick is None or quick.requested == EXACT:
        return quick
    others = [trial for trial in trials if trial.requested == EXACT and beats(trial)]
    tied = [trial for trial in others if measured.compare(quick.name, trial.name).tie]
    return max(tied, key=speedup_of, default=quick)


def beats(trial: Trial) -> bool:
    """Whether it holds the floor and is faster than the baseline beyond the noise."""
    return bool(trial.ok and trial.row and trial.row.speedup and trial.row.speedup.low > 1)


def speedup_of(trial: Trial) -> float:
    """How many times as fast as the baseline; 0 where that was not measured."""
    return trial.row.speedup.value if trial.row and trial.row.speedup else 0.0


def tied_with(chosen: Trial | None, trials: list[Trial], measured: Measured) -> list[str]:
    """The other forms that hold the floor and that the rounds do not tell from ``chosen``."""
    if chosen is None:
        return []
    others = [trial.name for trial in trials if beats(trial) and trial.name != chosen.name]
    return [name for name in others if measured.compare(chosen.name, name).tie]


def reason(
    chosen: Trial | None,
    trials: list[Trial],
    floor: Floor,
    baseline: str,
    tied: Sequence[str] = (),
) -> str:
    """How ``chosen`` came to be, or why there is none; ``tied`` are about as fast as it."""
    holding = [trial for trial in trials if trial.ok]
    if not holding:
        return f"no form holds the quality floor {floor.value:.4g}"
    held = f"{len(holding)} of {len(trials)} forms hold the floor {floor.value:.4g}"
    if chosen is None:
        return f"{held}, and none of them is faster beyond the noise"
    quickest = fastest(trials)
    if quickest is not None and quickest.name != chosen.name:
        return (
            f"{held}, and {chosen.name} is the fastest in {EXACT} of those that beat {baseline}: "
            f"the rounds do not tell it from {', '.join(tied)}"
        )
    told = f"{held}, and {chosen.name} is the fastest of those that beat {baseline}"
    return f"{told}, though the rounds do not tell it from {', '.join(tied)}" if tied else told


def verdict(
    chosen: Trial | None, trials: list[Trial], floor: Floor, baseline: str, *, noisy: bool
) -> str:
    """The result in one sentence; from a busy machine only the lower end of the speed-up."""
    if chosen is None or chosen.row is None or chosen.row.speedup is None:
        return f"Nothing beats {baseline}: {reason(None, trials, floor, baseline)}."
    speedup, quality = chosen.row.speedup, chosen.row.quality
    assert quality is not None
    told = f"{speedup.value:.2f}×" if not noisy else f"at least {speedup.low:.2f}×"
    return (
        f"{chosen.name} is {told} as fast as {baseline} "
        f"({speedup.low:.2f}-{speedup.high:.2f}×, median {chosen.row.latency_ms.typical:.3g} ms) "
        f"and keeps {quality.value:.4f} of its quality (at least {quality.low:.4f}; "
        f"{quality.metric}, n={quality.n})."
    )


def baseline_dict(measured: Measured, name: str) -> dict[str, object]:
    """The origin's row under its own name."""
    row = next(row for row in measured.rows if row.name == ORIGIN)
    return {**row.to_dict(), "name": name}
