"""Places the labels of a scatter plot beside their points without overlaps.

Greedy with one round of repair, after the cartographers' rule (Imhof 1975): every label is tried
in sixteen directions at growing distance; boxes, points and the frame may not be touched, lines
may at a cost. A label that had to move away gets a leader line. Deterministic.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_GAPS = (5, 11, 18, 26, 36, 48, 62, 78, 96, 118, 142, 170)
_TURNS = tuple(math.tau * turn / 16 for turn in range(16))
_LEADER_FROM = 9.0
_SHORTENED = 70.0


class Segment(NamedTuple):
    """A straight line in pixels, y downwards; ``weight`` is the cost of a label on it."""

    x0: float
    y0: float
    x1: float
    y1: float
    weight: float = 36.0


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    x0: float
    y0: float
    x1: float
    y1: float

    def meets(self, other: Box, margin: float = 0) -> bool:
        return (
            self.x0 < other.x1 + margin
            and other.x0 < self.x1 + margin
            and self.y0 < other.y1 + margin
            and other.y0 < self.y1 + margin
        )

    def within(self, other: Box) -> bool:
        inside = self.x0 >= other.x0 and self.x1 <= other.x1
        return inside and self.y0 >= other.y0 and self.y1 <= other.y1

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        return min(max(x, self.x0), self.x1), min(max(y, self.y0), self.y1)

    def crossed(self, line: Segment) -> bool:
        """Whether ``line`` passes through, by clipping (Liang and Barsky 1984)."""
        start, end = 0.0, 1.0
        dx, dy = line.x1 - line.x0, line.y1 - line.y0
        for step, room in (
            (-dx, line.x0 - self.x0),
            (dx, self.x1 - line.x0),
            (-dy, line.y0 - self.y0),
            (dy, self.y1 - line.y0),
        ):
            if step == 0:
                if room < 0:
                    return False
            elif step < 0:
                start = max(start, room / step)
            else:
                end = min(end, room / step)
        return start <= end


@dataclass(frozen=True)
class Wish:
    """A point of ``radius`` and the texts it would carry, the most wished first.

    ``stretch`` widens the estimate of the texts' width: bold needs 1.12.
    """

    x: float
    y: float
    radius: float
    texts: tuple[str, ...]
    stretch: float = 1.0

    @property
    def box(self) -> Box:
        r = self.radius
        return Box(self.x - r, self.y - r, self.x + r, self.y + r)


@dataclass(frozen=True)
class Label:
    """A text in its box, with the line that leads to its point where it stands away."""

    text: str
    box: Box
    leader: Segment | None
    cost: float


def text_width(text: str, font_px: float) -> float:
    """An upper estimate for the wide sans-serifs among the system fonts."""
    return sum(map(_em, text)) * font_px


def place(
    wishes: Sequence[Wish],
    frame: Box,
    font_px: float,
    blocked: Sequence[Box] = (),
    lines: Sequence[Segment] = (),
) -> list[Label | None]:
    """One label (or None where there is no room at all) per wish, the first served first."""
    placed: list[Label | None] = [None] * len(wishes)
    for _ in range(2):
        for index in range(len(wishes)):
            placed[index] = None
            placed[index] = _best(index, wishes, frame, font_px, blocked, lines, placed)
    return placed


def _best(
    index: int,
    wishes: Sequence[Wish],
    frame: Box,
    font_px: float,
    blocked: Sequence[Box],
    lines: Sequence[Segment],
    placed: Sequence[Label | None],
) -> Label | None:
    wish, others = wishes[index], [label for label in placed if label]
    points = [each.box for each in wishes] + list(blocked)
    best: Label | None = None
    for rank, text in enumerate(wish.texts):
        width, height = text_width(text, font_px) * wish.stretch, font_px * 1.25
        for gap in _GAPS:
            base = gap + rank * _SHORTENED
            if best is not None and base >= best.cost:
                break
            for turn in _TURNS:
                box = _box_at(wish, gap, turn, width, height)
                if not box.within(frame) or any(box.meets(point, 1.5) for point in points):
                    continue
                if any(box.meets(other.box, 3) for other in others):
                    continue
                leader = _leader(wish, box)
                cost = base + 3 * abs(math.sin(turn)) + (2 if math.cos(turn) < -0.1 else 0)
                cost += _clashes(index, box, leader, wishes, lines, others)
                if best is None or cost < best.cost:
                    best = Label(text, box, leader, cost)
    return best


def _box_at(wish: Wish, gap: float, turn: float, width: float, height: float) -> Box:
    dx, dy = math.cos(turn), math.sin(turn)
    reach = wish.radius + gap
    x = wish.x + dx * reach + max(-1.0, min(1.0, dx * 1.5)) * width / 2
    y = wish.y + dy * reach + max(-1.0, min(1.0, dy * 1.5)) * height / 2
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _leader(wish: Wish, box: Box) -> Segment | None:
    x, y = box.nearest(wish.x, wish.y)
    away = math.hypot(x - wish.x, y - wish.y)
    if away - wish.radius < _LEADER_FROM:
        return None
    share = wish.radius / away
    return Segment(wish.x + (x - wish.x) * share, wish.y + (y - wish.y) * share, x, y)


def _clashes(
    index: int,
    box: Box,
    leader: Segment | None,
    wishes: Sequence[Wish],
    lines: Sequence[Segment],
    others: Sequence[Label],
) -> float:
    """The cost of lines under the label, of what its leader crosses, of a nearer stranger."""
    cost = sum(line.weight * box.crossed(line) for line in lines)
    cost += 60.0 * sum(other.leader is not None and box.crossed(other.leader) for other in others)
    if leader is None:
        own = _distance(wishes[index], box)
        near = (_distance(each, box) for at, each in enumerate(wishes) if at != index)
        return cost + 8.0 * sum(max(0.0, own + 4 - far) / 4 for far in near)
    for at, each in enumerate(wishes):
        cost += 30.0 * (at != index and each.box.crossed(leader))
    for other in others:
        cost += 90.0 * other.box.crossed(leader)
        cost += 60.0 * (other.leader is not None and _cross(leader, other.leader))
    return cost + 4 + 3.0 * sum(_cross(leader, line) for line in lines)


def _distance(wish: Wish, box: Box) -> float:
    x, y = box.nearest(wish.x, wish.y)
    return math.hypot(x - wish.x, y - wish.y) - wish.radius


def _cross(a: Segment, b: Segment) -> bool:
    def side(line: Segment, x: float, y: float) -> float:
        return (line.x1 - line.x0) * (y - line.y0) - (line.y1 - line.y0) * (x - line.x0)

    across = side(a, b.x0, b.y0) * side(a, b.x1, b.y1) < 0
    return across and side(b, a.x0, a.y0) * side(b, a.x1, a.y1) < 0


def _em(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "il|.,:;'!() -jtfrI[]":
        return 0.42
    return 0.95 if char in "mMwW@%…" else 0.72 if char.isupper() else 0.64
