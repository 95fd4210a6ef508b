"""What the report says in words, before it becomes HTML or Markdown, so that both say the same.

Every function reads the result without trust and answers plain text; the renderers escape it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxpress.report.format import (
    MISSING,
    milliseconds,
    number,
    quality,
    rate,
    significant,
    size,
    speedup,
    text,
)
from onnxpress.report.rows import Row, Rows, mapping, sequence

_EXAMPLES = {
    "image": '["photo.jpg"]',
    "segmentation": '["photo.jpg"]',
    "detection": '["photo.jpg"]',
    "text": '["A sentence."]',
    "token": '["A sentence."]',
    "tabular": "rows",
}


@dataclass(frozen=True)
class Fact:
    """A term, what is true of it, and how it was got."""

    term: str
    value: str
    note: str = ""


def verdict(result: Mapping[str, object], rows: Rows) -> str:
    """The result's own sentence; a ``bench`` has none and gets a title."""
    if result.get("verdict") or not rows.baseline:
        return text(result.get("verdict"))
    return f"{', '.join(_others(rows))} against {rows.baseline.name}"


def timestamp(result: Mapping[str, object]) -> str:
    """When it was measured."""
    environment = mapping(result.get("environment"))
    return text(environment.get("time_utc") or environment.get("timestamp"), 60)


def headline(result: Mapping[str, object], rows: Rows) -> tuple[Fact, ...]:
    """Form, speed-up, quality and size of what was chosen; else of the best that was not."""
    row, term = rows.chosen, "Chosen form"
    if row is None:
        measured = [each for each in rows.rows if not each.is_baseline and each.latency_ms]
        holding = [each for each in measured if not each.is_refused]
        row = next(iter(holding or measured), None)
        term = "Fastest that holds the floor" if holding else "Fastest, not chosen"
        term = term if "chosen" in result else "Fastest"
        if row is not None and "tie" in row.marks and "chosen" not in result:
            term = "A tie with the baseline"
    if row is None or rows.is_sweep:
        return ()
    return (
        Fact(term, row.name, row.details),
        _speedup_fact(result, row, rows),
        Fact("Quality", quality(row.value, rows.floor), quality_note(row, rows.floor)),
        Fact("Size", size(row.size_bytes), _against("size_bytes", size, rows)),
    )


def quality_note(row: Row, floor: float | None) -> str:
    """The lower end, the floor, the metric with its two values and the sample count."""
    raw, parts = row.quality, []
    if row.low is not None:
        parts.append(f"at least {quality(row.low, floor)}, the lower end of the 95 % interval")
    if floor is not None:
        parts.append(f"floor {quality(floor)}")
    metric, samples = text(raw.get("metric"), 60), number(raw.get("n"))
    if metric != MISSING:
        values = [significant(raw.get(key), 4) for key in ("candidate", "origin")]
        compared = f" {values[0]} against {values[1]}" if MISSING not in values else ""
        parts.append(metric + compared)
    return "; ".join(parts) + (f"; n = {samples:,.0f}" if samples is not None else "")


def samples(result: Mapping[str, object]) -> tuple[Fact, ...]:
    """Which data calibrated and which scored."""
    raw = mapping(result.get("samples"))
    names = {"description": "Source", "calibration": "For calibration", "scoring": "For scoring"}
    facts = [Fact(names[key], text(raw.get(key))) for key in names] if raw else []
    if raw.get("random") is True:
        facts.append(
            Fact(
                "Random",
                "the samples are random numbers, not data: the quality is only an indication",
            )
        )
    return tuple(facts)


def warnings(result: Mapping[str, object]) -> tuple[str, ...]:
    """What to be wary of; in a ``bench`` also the gates that were missed."""
    missed = (f"gate missed: {text(each)}" for each in sequence(result.get("missed")))
    return (*map(text, sequence(result.get("warnings"))), *missed)


def crossovers(result: Mapping[str, object]) -> tuple[str, ...]:
    """Where one candidate of a sweep overtakes another, in words."""
    return tuple(text(mapping(each).get("text")) for each in sequence(result.get("crossovers")))


def usage(result: Mapping[str, object]) -> tuple[str, str] | None:
    """The shell line and the Python lines that run the bundle; None where there is none."""
    bundle = result.get("bundle")
    if not isinstance(bundle, str) or not bundle:
        return None
    task = str(result.get("task") or "")
    example = next((_EXAMPLES[key] for key in _EXAMPLES if task.startswith(key)), "inputs")
    path = text(bundle, 4096)
    opened = f"predictor = onnxpress.open({json.dumps(path, ensure_ascii=False)})"
    lines = ("import onnxpress", "", opened, f"outputs = predictor.predict({example})")
    return f"onnxpress run {shlex.quote(path)} INPUT", "\n".join(lines)


def _others(rows: Rows) -> tuple[str, ...]:
    """The first three names next to the baseline's, and how many more there are."""
    names = list(dict.fromkeys(row.name for row in rows.rows if not row.is_baseline))
    more = (f"{len(names) - 3} more",) if len(names) > 3 else ()
    return (*names[:3], *more)


def _speedup_fact(result: Mapping[str, object], row: Row, rows: Rows) -> Fact:
    value, interval = speedup(*(row.speedup.get(key) for key in ("value", "low", "high")))
    against = f"against {rows.baseline.name}" if rows.baseline else "the baseline is not known"
    if result.get("objective") == "throughput":
        compared = rate(row.throughput_per_s) + _against("throughput_per_s", rate, rows, " ")
    else:
        compared = f"{rows.statistic_name} {milliseconds(row.latency_ms)}"
        compared += _against("latency_ms", milliseconds, rows, " ")
    tie = "; a tie" if "tie" in row.marks else ""
    batch = f"; batch {text(result['batch'])}" if result.get("batch") is not None else ""
    return Fact("Speed-up", value, f"{interval} {against}{tie}; {compared}{batch}".strip())


def _against(field: str, shown: Callable[[object], str], rows: Rows, before: str = "") -> str:
    if rows.baseline is None or getattr(rows.baseline, field) is None:
        return ""
    return f"{before}against {shown(getattr(rows.baseline, field))}"
