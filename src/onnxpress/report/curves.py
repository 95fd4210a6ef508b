"""Pictures of a sweep: latency and throughput against batch or length, in pixels for the template.

Both axes are logarithmic: a line that rises by one per one is proportional growth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxpress.report.axes import Axis, log_axis
from onnxpress.report.format import number
from onnxpress.report.labels import Box
from onnxpress.report.rows import Row, Rows
from onnxpress.report.symbols import outline

WIDE, NARROW = (448, 320), (368, 300)
SHOWN = 2
"""So many lines of other sizes, the smallest and the largest, are drawn of a sweep over both."""

_APART_PX = 26.0
_RADIUS_PX = 4.0


@dataclass(frozen=True)
class Curve:
    """One candidate: its line, and for each size a mark and a whisker to its slow calls.

    ``hue`` is -1 for the baseline; ``is_dashed`` tells candidates of one hue apart.
    """

    name: str
    hue: int
    is_dashed: bool
    path: str
    marks: tuple[str, ...]
    whiskers: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """Everything the template draws, in pixels of a ``width`` × ``height`` view."""

    width: float
    height: float
    plot: Box
    title: str
    hint: str
    below: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Figure:
    """Latency and throughput along one axis, for wide and for narrow screens."""

    title: str
    wide: tuple[Chart, ...]
    narrow: tuple[Chart, ...]


@dataclass(frozen=True)
class Place:
    """What a candidate was measured at: the median and the slow end, of one quantity."""

    size: float
    value: float
    slow: float


def figures(rows: Rows) -> tuple[Figure, ...]:
    """One for each axis that has several sizes, of the smallest and the largest of the other."""
    found, hues = [], names(rows)
    for axis, fixed in (("batch", "length"), ("length", "batch")):
        others = list(dict.fromkeys(getattr(row, fixed) for row in rows.rows if row.latency_ms))
        for other in others if len(others) <= SHOWN else (others[0], others[-1]):
            line = [r for r in rows.rows if getattr(r, fixed) == other and r.latency_ms]
            if len({getattr(row, axis) for row in line} - {None}) > 1:
                fixed_told = fixed if len(others) > 1 else ""
                found.append(_figure(line, hues, axis, fixed_told, other))
    return tuple(found)


def names(rows: Rows) -> dict[str, int]:
    """Candidate → hue, in order of their first appearance; the baseline has -1."""
    found: dict[str, int] = {}
    for row in rows.rows:
        if row.latency_ms and row.name not in found:
            found[row.name] = -1 if row.is_baseline else sum(hue >= 0 for hue in found.values())
    return found


def _figure(
    line: Sequence[Row], hues: Mapping[str, int], axis: str, fixed: str, other: float | None
) -> Figure:
    there = [name for name in hues if _of(line, name)]
    latency = {name: [_latency(row, axis) for row in _of(line, name)] for name in there}
    rate = {name: [_rate(row, axis) for row in _of(line, name)] for name in there}
    below = "batch" if axis == "batch" else "tokens of each text"
    what = {"batch": f"batch {other}", "length": f"{other} tokens each"}
    where = f", {what[fixed].replace('.0', '')}" if fixed and other is not None else ""

    def charts(width: float, height: float) -> tuple[Chart, ...]:
        return (
            _chart(latency, hues, (width, height), ("latency, ms", "↓ better", below)),
            _chart(rate, hues, (width, height), ("records per second", "↑ better", below)),
        )

    return Figure(f"Against {axis}{where}", charts(*WIDE), charts(*NARROW))


def _of(line: Sequence[Row], name: str) -> list[Row]:
    return [row for row in line if row.name == name]


def _latency(row: Row, axis: str) -> Place:
    assert row.latency_ms is not None
    slow = number(row.spread.get("p95"))
    return Place(float(getattr(row, axis)), row.latency_ms, max(slow or 0, row.latency_ms))


def _rate(row: Row, axis: str) -> Place:
    """Records per second, as the table has it where it is there."""
    place = _latency(row, axis)
    rate = row.throughput_per_s or (row.batch or 1) * 1e3 / place.value
    return Place(place.size, rate, rate * place.value / place.slow)


def _chart(
    places: Mapping[str, Sequence[Place]],
    hues: Mapping[str, int],
    size: tuple[float, float],
    texts: tuple[str, str, str],
) -> Chart:
    width, height = size
    plot = Box(58, 34, width - 12, height - 44)
    every = [place for each in places.values() for place in each]
    x_axis = log_axis([place.size for place in every], plot.x0, plot.x1)
    y_axis = log_axis([v for p in every for v in (p.value, p.slow)], plot.y1, plot.y0)
    title, hint, below = texts
    curves = [
        _curve(name, hues[name], each, (x_axis, y_axis), index - (len(places) - 1) / 2)
        for index, (name, each) in enumerate(places.items())
    ]
    sizes = sorted({place.size for place in every})
    ticks = _spaced([(x_axis.pixel(each), f"{each:,g}") for each in sizes])
    return Chart(
        width, height, plot, title, hint, below, ticks, y_axis.ticks, tuple(reversed(curves))
    )


def _curve(
    name: str, hue: int, places: Sequence[Place], axes: tuple[Axis, Axis], aside: float
) -> Curve:
    x_axis, y_axis = axes
    shift = aside * 3  # so that whiskers do not hide each other
    ordered = sorted(places, key=lambda place: place.size)
    at = [(x_axis.pixel(p.size) + shift, y_axis.pixel(p.value), p) for p in ordered]
    whiskers = (f"M{x:.1f} {y:.1f}V{y_axis.pixel(p.slow):.1f}m-3 0h6" for x, y, p in at)
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in at)
    marks = (outline(hue, x, y, _RADIUS_PX) for x, y, _ in at)
    return Curve(name, hue, hue >= 4, path, tuple(marks), tuple(whiskers))


def _spaced(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """The last one, and those of the others that leave room for their text."""
    kept: list[tuple[float, str]] = []
    for tick in reversed(ticks):
        if not kept or kept[-1][0] - tick[0] >= _APART_PX:
            kept.append(tick)
    return tuple(reversed(kept))
