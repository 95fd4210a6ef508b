"""The Pareto picture: latency against quality, worked out in pixels for the SVG template.

A point is non-dominated where no other is at least as fast and as good and better in one of the
two.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from onnxpress.report.axes import latency_axis, quality_axis
from onnxpress.report.format import quality
from onnxpress.report.labels import Box, Label, Segment, Wish, place, text_width
from onnxpress.report.rows import Row, Rows
from onnxpress.report.symbols import outline, scale_for

FONT_PX = 12.0


@dataclass(frozen=True)
class Point:
    """A row that has both coordinates. The baseline's quality is 1 by definition."""

    row: Row
    latency_ms: float
    quality: float


@dataclass(frozen=True)
class Mark:
    """A point in pixels. ``path`` is its outline, ``whisker_y`` the lower end of its quality."""

    row: Row
    x: float
    y: float
    radius: float
    path: str
    hue: int
    whisker_y: float | None
    label: Label | None = None


@dataclass(frozen=True)
class Picture:
    """Everything the template draws, in pixels of a ``width`` × ``height`` view."""

    width: float
    height: float
    plot: Box
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    is_log: bool
    is_broken: bool
    floor_y: float | None
    floor_text: str
    floor_box: Box
    frontier: str
    marks: tuple[Mark, ...]
    sizes: tuple[tuple[float, float, str], ...]


def points(rows: Rows) -> tuple[Point, ...]:
    """The rows that can be drawn, in order of latency; none of a sweep."""
    if rows.is_sweep:
        return ()
    found = []
    for row in rows.rows:
        value = 1.0 if row.is_baseline and row.value is None else row.value
        if row.latency_ms is not None and value is not None:
            found.append(Point(row, row.latency_ms, value))
    return tuple(found) if any(not each.row.is_baseline for each in found) else ()


def frontier(of: Sequence[Point]) -> tuple[Point, ...]:
    """The non-dominated points, fastest first; equal points stay together."""
    kept: list[Point] = []
    for point in sorted(of, key=lambda each: (each.latency_ms, -each.quality)):
        last = kept[-1] if kept else None
        equal = last and (last.latency_ms, last.quality) == (point.latency_ms, point.quality)
        if last is None or equal or point.quality > last.quality:
            kept.append(point)
    return tuple(kept)


def engines(of: Sequence[Point]) -> tuple[str, ...]:
    """The engines of the candidates, in order of their first appearance: the hues."""
    return tuple(dict.fromkeys(each.row.engine for each in of if not each.row.is_baseline))


def picture(rows: Rows, width: float, height: float) -> Picture | None:
    """The picture at one size; None where no candidate has a latency and a quality."""
    drawn = points(rows)
    if not drawn:
        return None
    narrow = width < 600
    plot = Box(56, 34, width - 14, height - 46)
    lows = [each.row.low for each in drawn if each.row.low is not None]
    x_axis = latency_axis([each.latency_ms for each in drawn], plot.x0, plot.x1)
    y_axis = quality_axis([each.quality for each in drawn], lows, rows.floor, plot.y0, plot.y1)
    x_of, y_of = x_axis.pixel, y_axis.pixel
    scale = scale_for([each.row.size_bytes for each in drawn], narrow)
    hues = engines(drawn)
    marks = []
    for each in drawn:
        x, y, low = x_of(each.latency_ms), y_of(each.quality), each.row.low
        radius = scale.radius(each.row.size_bytes)
        hue = -1 if each.row.is_baseline else hues.index(each.row.engine)
        whisker = None if low is None else max(y_of(low), y)
        path = outline(hue, x, y, radius)
        marks.append(Mark(each.row, x, y, radius, path, hue, whisker))
    best = frontier(drawn)
    steps = _steps([(x_of(each.latency_ms), y_of(each.quality)) for each in best])
    floor_y = None if rows.floor is None else y_of(rows.floor)
    floor_line = [] if floor_y is None else [Segment(plot.x0, floor_y, plot.x1, floor_y)]
    floor_text = f"floor {quality(rows.floor)}" + (" (scale changes)" if y_axis.is_broken else "")
    floor_box = _floor_box(floor_text, floor_y, plot, marks, steps)
    first = {each.row.number for each in best}
    labels = _labels(marks, first, narrow, plot, floor_box, steps + floor_line)
    marks = [dataclasses.replace(mark, label=labels[mark.row.number]) for mark in marks]
    path = "".join(f"L{line.x1:.1f} {line.y1:.1f}" for line in steps)
    return Picture(
        width=width,
        height=height,
        plot=plot,
        x_ticks=x_axis.ticks,
        y_ticks=y_axis.ticks,
        is_log=x_axis.is_log,
        is_broken=y_axis.is_broken,
        floor_y=floor_y,
        floor_text=floor_text,
        floor_box=floor_box,
        frontier=f"M{steps[0].x0:.1f} {steps[0].y0:.1f}{path}" if steps else "",
        marks=tuple(sorted(marks, key=_drawing_order)),
        sizes=scale.key(plot.x1, FONT_PX),
    )


def _labels(
    marks: Sequence[Mark],
    best: set[int],
    narrow: bool,
    plot: Box,
    floor_box: Box,
    lines: Sequence[Segment],
) -> dict[int, Label | None]:
    def importance(mark: Mark) -> tuple[bool, bool, bool, bool, int]:
        row = mark.row
        first = row.number in best
        return not row.is_chosen, not row.is_baseline, not first, row.is_refused, row.number

    ordered = sorted(marks, key=importance)
    wishes = []
    for mark in ordered:
        row, texts = mark.row, [str(mark.row.number)]
        if not narrow or row.is_chosen or row.is_baseline:
            texts.insert(0, f"{row.number} {_shortened(row.name, 18 if narrow else 30)}")
        reach = mark.radius * (1.25 if mark.hue == 0 else 1.4) + (4 if row.is_chosen else 0)
        bold = 1.12 if row.is_chosen or row.is_baseline else 1.0
        wishes.append(Wish(mark.x, mark.y, reach, tuple(texts), bold))
    whiskers = [Segment(m.x, m.y, m.x, m.whisker_y, 45) for m in marks if m.whisker_y is not None]
    blocked = [floor_box] if floor_box.x1 > floor_box.x0 else []
    frame = Box(plot.x0 + 3, plot.y0 + 3, plot.x1 - 3, plot.y1 - 3)
    found = place(wishes, frame, FONT_PX, blocked, [*lines, *whiskers])
    return {mark.row.number: label for mark, label in zip(ordered, found, strict=True)}


def _drawing_order(mark: Mark) -> tuple[bool, bool, float]:
    """What matters most lies on top: refused below, chosen above, small over large."""
    return mark.row.is_chosen, not mark.row.is_refused, -mark.radius


def _floor_box(
    text: str,
    floor_y: float | None,
    plot: Box,
    marks: Sequence[Mark],
    lines: Sequence[Segment],
) -> Box:
    """Room for the floor's label just below its line, where the fewest points are."""
    if floor_y is None:
        return Box(0, 0, 0, 0)
    width, height = text_width(text, FONT_PX), FONT_PX * 1.25
    top = floor_y + 3 if floor_y + 3 + height < plot.y1 else floor_y - 3 - height
    starts = (plot.x1 - width - 8, plot.x0 + 8, (plot.x0 + plot.x1 - width) / 2)
    boxes = [Box(start, top, start + width, top + height) for start in starts]

    def covers(box: Box) -> int:
        reach = (mark.radius * 1.5 + 4 for mark in marks)
        around = (
            Box(m.x - r, m.y - r, m.x + r, max(m.y + r, m.whisker_y or 0))
            for m, r in zip(marks, reach, strict=True)
        )
        crossed = sum(box.crossed(line) for line in lines)
        return crossed + sum(box.meets(each) for each in around)

    return min(boxes, key=covers)


def _steps(corners: Sequence[tuple[float, float]]) -> list[Segment]:
    """The staircase through the frontier: what is below and right of it is dominated."""
    lines = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        lines += [Segment(x0, y0, x1, y0), Segment(x1, y0, x1, y1)]
    return lines


def _shortened(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    head = (limit - 1) * 3 // 5
    return f"{name[:head]}…{name[head + 1 - limit :]}"
