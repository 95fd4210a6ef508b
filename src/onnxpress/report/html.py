"""The report as one HTML file: styles, pictures and one script inside, nothing fetched.

The template escapes every value; a content security policy in the page forbids whatever could
still be smuggled in.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxpress.errors import MissingExtra
from onnxpress.report import curves, pareto, sorting
from onnxpress.report.conditions import conditions
from onnxpress.report.facts import (
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
    number,
    quality,
    significant,
    size,
    speedup,
    text,
)
from onnxpress.report.provenance import cases, conversion, journal
from onnxpress.report.quantization import quantization
from onnxpress.report.rows import Row, Rows, read_rows
from onnxpress.report.symbols import outline

if TYPE_CHECKING:
    import jinja2

WIDE, NARROW = (912, 520), (368, 420)


@dataclass(frozen=True)
class Cell:
    """A number of the table and the smaller one below it; ``sort`` is what rows are sorted by."""

    main: str
    sub: str = ""
    sort: float | None = None


def render_html(result: Mapping[str, object]) -> str:
    """The whole page. Raises ``MissingExtra`` without jinja2."""
    rows = read_rows(result)
    page = _template().render(
        command=text(result.get("command"), 20),
        source=text(result.get("source"), 200),
        task=text(result.get("task"), 60),
        timestamp=timestamp(result),
        verdict=verdict(result, rows),
        version=text(result.get("schema_version")),
        headline=headline(result, rows),
        rows=rows,
        pictures=pictures(rows),
        figures=curves.figures(rows),
        curves=curves.names(rows),
        crossovers=crossovers(result),
        script=sorting.script(),
        script_source=sorting.source(),
        engines=pareto.engines(pareto.points(rows)),
        conditions=conditions(result, rows),
        conversion=conversion(result),
        cases=cases(result),
        journal=journal(result),
        quantization=quantization(result, rows),
        samples=samples(result),
        warnings=warnings(result),
        usage=usage(result),
        batch=text(result.get("batch")),
        recorded=frozenset(result),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def pictures(rows: Rows) -> tuple[pareto.Picture, ...]:
    """The Pareto picture for wide and for narrow screens; empty where nothing can be drawn."""
    found = (pareto.picture(rows, *WIDE), pareto.picture(rows, *NARROW))
    return tuple(each for each in found if each is not None)


def cells(row: Row, rows: Rows) -> tuple[Cell, ...]:
    """The numbers of one row, in the order of the table's columns."""
    spread = row.spread
    ratio, interval = speedup(*(row.speedup.get(key) for key in ("value", "low", "high")))
    if row.is_baseline:
        ratio, interval = "1×", ""
    value = quality(row.value, rows.floor)
    low = f"≥ {quality(row.low, rows.floor)}" if row.low is not None else ""
    if row.is_baseline and row.value is None and pareto.points(rows):
        value, low = "1", "by definition"
    found = (
        Cell(
            significant(row.latency_ms),
            mean_and_deviation(spread.get("mean"), spread.get("std")),
            row.latency_ms,
        ),
        Cell(
            significant(spread.get("p95")),
            significant(spread.get("p99")),
            number(spread.get("p95")),
        ),
        Cell(ratio, interval, 1.0 if row.is_baseline else number(row.speedup.get("value"))),
        Cell(value, low, 1.0 if value == "1" else row.value),
        Cell(size(row.size_bytes), "", row.size_bytes),
        Cell(significant(row.throughput_per_s), "", row.throughput_per_s),
        Cell(significant(row.load_ms), size(row.peak_rss_bytes), row.load_ms),
    )
    return tuple(Cell(MISSING) if (c.main, c.sub) == (MISSING, MISSING) else c for c in found)


@functools.cache
def _template() -> jinja2.Template:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra.of("jinja2", "press", "renders the report") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onnxpress.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(cells=cells, outline=outline)
    return environment.get_template("report.html")
