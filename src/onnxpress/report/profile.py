"""The page of a ``profile``: bars of time, and how much of each the machine's peak would need.

One HTML file from the dict that ``--json`` prints: styles, pictures and the script that sorts its
table inside, nothing fetched.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxpress.errors import MissingExtra
from onnxpress.report import sorting
from onnxpress.report.facts import Fact, timestamp, warnings
from onnxpress.report.format import MISSING, milliseconds, number, significant, size, text
from onnxpress.report.rows import mapping, sequence

if TYPE_CHECKING:
    import jinja2

NODES, SUMS, ALL = 30, 12, 1000
"""Bars of kernels, bars of operators and of modules, rows of the table below."""


@dataclass(frozen=True)
class Bar:
    """One row: ``length`` and ``needed`` are shares of the picture's width, 0 to 1.

    ``needed`` is the time that the products would take at the machine's peak, None where nothing
    is multiplied (or it is not known).
    """

    name: str
    note: str
    length: float
    needed: float | None
    told: str
    rate: str


@dataclass(frozen=True)
class Row:
    """One kernel of the table, as texts."""

    name: str
    note: str
    cells: tuple[str, ...]


def render_profile(result: Mapping[str, object]) -> str:
    """The whole page. Raises ``MissingExtra`` without jinja2."""
    nodes, said = _maps(result, "nodes"), [text(each) for each in sequence(result.get("verdict"))]
    modules = _maps(result, "modules_alike")
    page = _template().render(
        model=text(result.get("model"), 200),
        timestamp=timestamp(result),
        version=text(result.get("schema_version")),
        verdict=said[0] if said else "Nothing ran that takes time.",
        more=said[1:],
        headline=_headline(result),
        modules=bars(modules, SUMS) if any(each.get("name") for each in modules) else (),
        operators=bars(_maps(result, "by_op"), SUMS),
        kernels=bars(nodes, NODES),
        rows=tuple(map(_row, nodes[:ALL])),
        count=len(nodes),
        conditions=_conditions(result),
        warnings=warnings(result),
        script=sorting.script(),
        script_source=sorting.source(),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def bars(rows: Sequence[Mapping[str, object]], limit: int) -> tuple[Bar, ...]:
    """One bar for each of the first ``limit`` rows, as long as its time; the others together."""
    most = max((number(row.get("ms")) or 0.0 for row in rows), default=0.0) or 1.0
    found = [_bar(row, most) for row in rows[:limit]]
    rest = rows[limit:]
    if rest:
        ms = sum(number(row.get("ms")) or 0.0 for row in rest)
        share = sum(number(row.get("share")) or 0.0 for row in rest)
        told = f"{share * 100:.1f} %"
        found.append(
            Bar(f"{len(rest)} others", milliseconds(ms), min(ms / most, 1.0), None, told, "")
        )
    return tuple(found)


def _bar(row: Mapping[str, object], most: float) -> Bar:
    ms, peak = number(row.get("ms")) or 0.0, number(row.get("peak_share"))
    length = ms / most
    return Bar(
        text(row.get("name"), 200).replace(MISSING, "(no module)"),
        _note(row),
        length,
        None if peak is None else length * min(peak, 1.0),
        f"{(number(row.get('share')) or 0.0) * 100:.1f} %",
        "" if peak is None else f"{significant(row.get('gflops'))} GFLOP/s, {peak * 100:.0f} %",
    )


def _note(row: Mapping[str, object]) -> str:
    """Beside the name: a kernel's operator and module, or how many kernels there are."""
    count = number(row.get("count"))
    if count is not None:
        told = f"{count:,.0f} kernels" if count != 1 else "1 kernel"
        return f"{told}, {milliseconds(row.get('ms'))}"
    module = text(row.get("module"), 200)
    place = "" if module == MISSING else f" in {module}"
    return f"{text(row.get('op'), 60)}{place}, {milliseconds(row.get('ms'))}"


def _row(row: Mapping[str, object]) -> Row:
    peak, rate = number(row.get("peak_share")), number(row.get("gbytes_per_s"))
    return Row(
        text(row.get("name"), 200),
        ", ".join(
            told
            for key in ("op", "implementation", "precision", "module")
            if (told := text(row.get(key), 160)) != MISSING
        ),
        (
            significant(row.get("ms")),
            f"{(number(row.get('share')) or 0.0) * 100:.1f} %",
            text(row.get("calls")),
            "?" if row.get("macs") is None else _millions(row.get("macs")),
            significant(row.get("gflops")),
            MISSING if peak is None else f"{peak * 100:.0f} %",
            significant(rate),
        ),
    )


def _millions(macs: object) -> str:
    found = number(macs)
    return significant(found / 1e6) if found else MISSING


def _headline(result: Mapping[str, object]) -> tuple[Fact, ...]:
    nodes = _maps(result, "nodes")
    macs = sum(number(row.get("macs")) or 0.0 for row in nodes)
    total, peak = number(result.get("total_ms")), number(result.get("peak_gflops"))
    rate = 2 * macs / total / 1e6 if total else None
    with_profiler = milliseconds(result.get("profiled_ms"))
    share = f"{rate / peak * 100:.0f} % of the peak" if rate and peak else ""
    return (
        Fact("One run", milliseconds(total), "without the profiler; median of the rounds"),
        Fact(
            "Kernels", milliseconds(result.get("nodes_ms")),
            f"{len(nodes):,} of them; a run with the profiler {with_profiler}",
        ),
        Fact("GFLOP/s", significant(rate), f"of the whole run: {share}" if share else ""),
        Fact("Peak", significant(peak), "GFLOP/s of one large float32 product"),
    )  # fmt: skip


def _conditions(result: Mapping[str, object]) -> tuple[Fact, ...]:
    environment = mapping(result.get("environment"))
    machine, shapes = mapping(environment.get("machine")), mapping(result.get("shapes"))
    inputs = ", ".join(
        f"{text(name)} {'×'.join(map(str, sequence(shape)))}" for name, shape in shapes.items()
    )
    return (
        Fact("Engine", text(result.get("engine"))),
        Fact("Threads", text(result.get("threads"))),
        Fact("Batch", text(result.get("batch"))),
        Fact("Inputs", inputs or MISSING),
        Fact("Kernels", f"{text(result.get('runs'))} runs with the profiler, after a warm-up; "
             f"{text(result.get('method'))}"),
        Fact("With the profiler", f"{milliseconds(result.get('profiled_ms'))} a run"),
        Fact("Share", "of the time of all kernels"),
        Fact("Peak", text(result.get("peak"))),
        Fact("CPU", text(machine.get("cpu"))),
        Fact("Instruction sets", text(machine.get("isa"))),
        Fact("Memory", size(machine.get("memory_bytes"))),
        Fact("Load average", text(environment.get("load_average"))),
        Fact("Versions", text(environment.get("versions"))),
        Fact("Measured at", timestamp(result)),
    )  # fmt: skip


def _maps(result: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    return [each for each in sequence(result.get(key)) if isinstance(each, Mapping)]


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
    return environment.get_template("profile.html")
