"""The report as Markdown: what the HTML says, with the frontier as a list for the picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from onnxpress.report import curves, pareto
from onnxpress.report.conditions import conditions
from onnxpress.report.facts import (
    Fact,
    crossovers,
    headline,
    samples,
    timestamp,
    usage,
    verdict,
    warnings,
)
from onnxpress.report.format import (
    MISSING,
    mean_and_deviation,
    milliseconds,
    quality,
    significant,
    size,
    speedup,
    text,
)
from onnxpress.report.provenance import cases, conversion, journal
from onnxpress.report.quantization import quantization
from onnxpress.report.rows import Row, Rows, read_rows

_SPECIAL = re.compile(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
INT8 = "What int8 did"
SWEEP = "Where one overtakes another"
FRONTIER = "The Pareto frontier of quality against latency"
_KEYS = {
    "Conversion": "conversion",
    "Journal of the passes": "journal",
    "Samples": "samples",
    "How to use it": "bundle",
}


def render_markdown(result: Mapping[str, object]) -> str:
    """The whole report in GitHub's Markdown; no value can become markup or HTML."""
    rows = read_rows(result)
    known = (text(result.get("source"), 200), text(result.get("task"), 60), timestamp(result))
    where = (escape(each) for each in known if each != MISSING)
    table = _grid(("Verified with shapes", "Largest difference", "Answer"), cases(result), "lrl")
    sections = {
        SWEEP: ("\n".join(f"- {escape(each)}" for each in crossovers(result)), _sweep(rows)),
        "Every form, fastest first": (_table(rows), "\n".join(_reasons(rows))),
        FRONTIER: ("\n".join(_frontier(rows)),),
        INT8: _int8(result, rows),
        "How it was measured": (_facts(conditions(result, rows)),),
        "Conversion": (_facts(conversion(result)), table),
        "Journal of the passes": (_journal(result),),
        "Samples": (_facts(samples(result)),),
        "Warnings": ("\n".join(f"- {escape(each)}" for each in warnings(result)),),
        "How to use it": _usage(result),
    }
    blocks = [
        f"# {escape(verdict(result, rows))}",
        " · ".join((f"onnxpress {escape(text(result.get('command'), 20))}", *where)),
        _facts(headline(result, rows)),
    ]
    unneeded = {FRONTIER} if rows.is_sweep else {SWEEP}
    unneeded |= {title for title in (INT8, FRONTIER) if not any(sections[title])}
    for title, parts in sections.items():
        if title in unneeded:
            continue
        if _KEYS.get(title) in {None, *result}:
            blocks += [f"## {title}", *(parts if any(parts) else ("Nothing was recorded.",))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(value: str) -> str:
    """``value`` as literal text inside a line or a table cell."""
    safe = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = _SPECIAL.sub(r"\\\1", safe)
    return safe.replace("://", ":\u200b//").replace("www.", "www\u200b.").replace("@", "&#64;")


def _table(rows: Rows) -> str:
    against = f" against #{rows.baseline.number}" if rows.baseline else ""
    head = (
        *("#", "Form", "Engine and settings", f"Latency ({rows.statistic_name}), ms"),
        *("Mean ± std, ms", "p95, ms", "p99, ms", f"Speed-up{against}", "Quality (at least)"),
        *("Size", "Per second", "Load, ms", "Peak memory", "Result"),
    )
    scored = bool(pareto.points(rows))
    return _grid(head, (_cells(row, rows, scored) for row in rows.rows), "rll" + "r" * 10 + "l")


def _cells(row: Row, rows: Rows, scored: bool) -> tuple[str, ...]:
    spread = row.spread
    ratio, interval = speedup(*(row.speedup.get(key) for key in ("value", "low", "high")))
    value = quality(row.value, rows.floor)
    if row.is_baseline:
        ratio, interval = "1×", ""
        value = "1 by definition" if row.value is None and scored else value
    return (
        str(row.number),
        row.name,
        row.details,
        significant(row.latency_ms),
        mean_and_deviation(spread.get("mean"), spread.get("std")),
        significant(spread.get("p95")),
        significant(spread.get("p99")),
        f"{ratio} ({interval})" if interval else ratio,
        value + (f" (≥ {quality(row.low, rows.floor)})" if row.low is not None else ""),
        size(row.size_bytes),
        significant(row.throughput_per_s),
        significant(row.load_ms),
        size(row.peak_rss_bytes),
        ", ".join(row.marks) or MISSING,
    )


def _sweep(rows: Rows) -> str:
    """A line per size and a column per candidate: the latency, and records per second."""
    names = list(curves.names(rows))
    sizes = dict.fromkeys((row.batch, row.length) for row in rows.rows if row.latency_ms)
    lines = []
    for batch, length in sizes:
        known = {r.name: r for r in rows.rows if (r.batch, r.length) == (batch, length)}
        found = (known.get(name) for name in names)
        told = (MISSING if r is None else _speed(r) for r in found)
        lines.append((text(batch), *((text(length),) if rows.lengths else ()), *told))
    head = ("Batch", *(("Tokens",) if rows.lengths else ()), *map(escape, names))
    table = _grid(head, lines, "r" * len(head))
    return f"{table}\n\nMedian latency in ms, and records per second." if table else ""


def _speed(row: Row) -> str:
    return f"{significant(row.latency_ms)} ({significant(row.throughput_per_s)}/s)"


def _reasons(rows: Rows) -> Iterable[str]:
    for row in rows.rows:
        if row.reason:
            yield f"- #{row.number} {escape(row.name)}: {escape(row.reason)}"


def _frontier(rows: Rows) -> Iterable[str]:
    """Every non-dominated form: no other is at least as fast and as good."""
    for point in pareto.frontier(pareto.points(rows)):
        row = point.row
        low = f" (≥ {quality(row.low, rows.floor)})" if row.low is not None else ""
        marks = f": {', '.join(row.marks)}" if row.marks else ""
        yield (
            f"- #{row.number} {escape(row.name)}, {milliseconds(point.latency_ms)}, "
            f"quality {quality(point.quality, rows.floor)}{low}, {size(row.size_bytes)}{marks}"
        )


def _int8(result: Mapping[str, object], rows: Rows) -> tuple[str, ...]:
    found = quantization(result, rows)
    if found is None:
        return ()
    layers = ((bar.name, bar.told) for bar in found.layers)
    tensors = ((each.tensor, each.error, each.seen, each.chosen) for each in found.histograms)
    return (
        f"Of {escape(found.form)}, the worst first; errors are shares of the power.",
        _grid(("Layer", "Error"), layers, "lr"),
        _grid(("Activation", "Error", "Seen", "Represented"), tensors, "lrll"),
    )


def _journal(result: Mapping[str, object]) -> str:
    lines = []
    for step in journal(result):
        more = (f"and {step.hidden} more in the JSON",) if step.hidden else ()
        lines.append((step.name, step.rewrites, "; ".join((*step.refusals, *more))))
    return _grid(("Pass", "Rewrites", "Left alone, and why"), lines, "lrl")


def _usage(result: Mapping[str, object]) -> tuple[str, ...]:
    found = usage(result)
    if found is None:
        keep = "" if result.get("chosen") else " `--keep-float` writes one, labelled as slower."
        return (f"No bundle was written, so there is nothing to run.{keep}",)
    longest = max(map(len, re.findall("`+", "".join(found))), default=0)
    fence = "`" * max(3, longest + 1)
    return tuple(
        f"{fence}{language}\n{lines}\n{fence}"
        for language, lines in zip(("sh", "python"), found, strict=True)
    )


def _facts(facts: Sequence[Fact]) -> str:
    lines = []
    for fact in facts:
        note = f" ({escape(fact.note)})" if fact.note else ""
        lines.append(f"- **{escape(fact.term)}:** {escape(fact.value)}{note}")
    return "\n".join(lines)


def _grid(head: Sequence[str], body: Iterable[Sequence[str]], sides: str) -> str:
    """A table; empty where it has no rows. ``sides`` has ``l`` or ``r`` per column."""
    lines = [f"| {' | '.join(map(escape, cells))} |" for cells in body]
    rule = "|".join(" ---: " if side == "r" else " --- " for side in sides)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *lines]) if lines else ""
