"""What a bench says in the end: its verdict, the gates that were missed, warnings, one object."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpress.verbs.crossovers import crossovers
from onnxpress.verbs.measured import Measured, Row
from onnxpress.verbs.score import RANDOM
from onnxpress.verbs.sweep import Point


def missed_gates(
    results: Sequence[Measured], fail_if_slower: float | None, min_quality: float | None
) -> list[str]:
    """One line for each row that misses a gate, and for each candidate that failed.

    A row is slower than the baseline by more than the share, beyond the noise; or its quality, at
    the lower end of its interval, is below ``min_quality``.
    """
    least = None if fail_if_slower is None else 1 / (1 + fail_if_slower)
    missed = []
    for result in results:
        for row in result.rows:
            if row.name == result.baseline:
                continue
            if least is not None and row.speedup and row.speedup.high < least:
                where = f" at {_point(row)}" if len(results) > 1 else ""
                times = 1 / row.speedup.value
                missed.append(f"{row.name} takes {times:.2f}× the baseline's time{where}")
            if min_quality is not None and row.quality and row.quality.low < min_quality:
                missed.append(f"{row.name} has quality {row.quality.low:.4f} at worst")
        for name, why in result.failures.items():
            verb = "was refused" if name in result.refused else "failed"
            missed.append(f"{name} {verb}: {why}")
    return list(dict.fromkeys(missed))


def cautions(results: Sequence[Measured], *, random: bool) -> list[str]:
    """Why the results should not be trusted blindly; ``random``: on made-up samples."""
    notes = [note for result in results for note in result.notes]
    noise = [f"{result.noisy}{_where(result, results)}" for result in results if result.noisy]
    if len(noise) > 1:
        noise = [f"{noise[0]}, and so at {len(noise) - 1} more sizes"]
    fallen = [row.fallen for result in results for row in result.rows if row.fallen]
    return list(dict.fromkeys([RANDOM] * random + notes + fallen + noise))


def verdict(results: Sequence[Measured]) -> str:
    """Which candidate is fastest, at which sizes, and how much faster than the baseline."""
    baseline = results[0].baseline
    won = [(_point(result.rows[0]), *_fastest(result)) for result in results if _compared(result)]
    if not won:
        return f"nothing was compared with {baseline}"
    if len(results) == 1:
        return won[0][2]
    wins: dict[str, list[Point]] = {}
    for point, name, _ in sorted(won, key=lambda each: (each[0].length or 0, each[0].batch)):
        wins.setdefault(name, []).append(point)
    if not any(wins):
        return f"nothing is faster than {baseline} at any size"
    told = []
    for name, points in wins.items():
        where = "every size" if len(wins) == 1 else _places(points, len(won))
        if name:
            ratios = [_speedup(each, name) for each in results if _size(each) in points]
            low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
            speed = f"{low if low == high else f'{low}–{high}'}× the speed of {baseline}"
            told.append(f"{name} is the fastest at {where}: {speed}")
    if "" in wins:
        told.append(f"nothing is proved faster at {_places(wins[''], len(won))}")
    return "; ".join(told)


def summary(
    results: Sequence[Measured],
    missed: Sequence[str],
    warnings: Sequence[str],
    *,
    end_to_end: bool = False,
) -> dict[str, object]:
    """All sizes as the one object that ``--json`` prints."""
    failures: dict[str, dict[str, None]] = {}
    for result in results:
        for name, why in result.failures.items():
            failures.setdefault(name, {})[why] = None
    refused = {name: each for result in results for name, each in result.refused.items()}
    return {
        "verdict": verdict(results),
        "environment": dict(results[0].environment),
        "baseline": results[0].baseline,
        "end_to_end": end_to_end,
        "rounds": max(result.rounds for result in results),
        "rows": [row.to_dict() for result in results for row in result.rows],
        "crossovers": [each.to_dict() for each in crossovers(results)],
        "failures": {name: "; ".join(whys) for name, whys in failures.items()},
        "refused": {name: quality.to_dict() for name, quality in refused.items()},
        "missed": list(missed),
        "warnings": list(warnings),
    }


def _compared(result: Measured) -> bool:
    return any(row.name != result.baseline and row.speedup for row in result.rows)


def _fastest(result: Measured) -> tuple[str, str]:
    """The name of the fastest candidate that beats the baseline (empty for none), and a line."""
    rows = [row for row in result.rows if row.name != result.baseline and row.speedup]
    best = min(rows, key=lambda row: row.latency_ms.typical)
    ratio = best.speedup
    assert ratio is not None
    told = f"{ratio.value:.2f}×, 95 % interval {ratio.low:.2f}–{ratio.high:.2f}"
    if ratio.tie:
        return "", f"a tie: the rounds do not tell {best.name} from {result.baseline} ({told})"
    if ratio.high < 1:
        return "", f"nothing is faster than {result.baseline}; next is {best.name} ({told})"
    told = f"({ratio.low:.2f}–{ratio.high:.2f})"
    speed = f"{ratio.value:.2f}× {told} the speed of {result.baseline}"
    return best.name, f"{best.name} is the fastest: {speed}"


def _places(points: Sequence[Point], of: int) -> str:
    """``batch 8, 32``, or how many of all where they differ in both."""
    if all(point.length is None for point in points):
        return f"batch {', '.join(str(point.batch) for point in points)}"
    return f"{len(points)} of {of} sizes"


def _speedup(result: Measured, name: str) -> float:
    found = next(row.speedup for row in result.rows if row.name == name)
    assert found is not None
    return found.value


def _size(result: Measured) -> Point | None:
    return _point(result.rows[0]) if result.rows else None


def _point(row: Row) -> Point:
    return Point(row.batch, row.length)


def _where(result: Measured, results: Sequence[Measured]) -> str:
    told = len(results) > 1 and result.rows
    return f" ({_point(result.rows[0])})" if told else ""
