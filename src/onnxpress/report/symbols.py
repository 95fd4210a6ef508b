"""The symbols of the Pareto picture: one shape per engine, an area per file size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxpress.report.format import size
from onnxpress.report.labels import text_width

_LARGEST_PX, _SMALLEST_PX, _UNKNOWN_PX, _MANY = 15.0, 3.0, 4.5, 12


def outline(hue: int, x: float, y: float, radius: float) -> str:
    """An SVG path with the area of a circle of ``radius``: one shape per engine.

    -1 (the baseline) is a diamond, then circle, square, triangle and downward triangle.
    """
    shape = hue % 4
    if hue >= 0 and shape == 0:
        r = f"{radius:.2f}"
        arc = f"a{r} {r} 0 1 0"
        return f"M{x - radius:.2f} {y:.2f}{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0Z"
    corners = 4 if hue < 0 or shape == 1 else 3
    turn = {-1: 0.0, 1: math.pi / 4, 2: -math.pi / 2, 3: math.pi / 2}[-1 if hue < 0 else shape]
    reach = radius * math.sqrt(2 * math.pi / corners / math.sin(math.tau / corners))
    around = (turn + math.tau * corner / corners for corner in range(corners))
    at = (f"{x + reach * math.cos(a):.2f} {y + reach * math.sin(a):.2f}" for a in around)
    return f"M{'L'.join(at)}Z"


@dataclass(frozen=True)
class Scale:
    """File sizes to radii in pixels: areas in proportion, small files stay visible."""

    largest_bytes: float
    largest_px: float

    def radius(self, size_bytes: float | None) -> float:
        if not size_bytes or size_bytes < 0 or self.largest_bytes <= 0:
            return _UNKNOWN_PX
        share = math.sqrt(size_bytes / self.largest_bytes)
        return max(_SMALLEST_PX, self.largest_px * share)

    def key(self, right: float, font_px: float) -> tuple[tuple[float, float, str], ...]:
        """Two circles of round sizes as (x, radius, text), the larger one ending at ``right``."""
        if self.largest_bytes <= 0:
            return ()
        big = _round_down(self.largest_bytes)
        found = []
        for each in (big, _round_down(big / 4)):
            label = size(each).replace(".00", "").replace("0.0", "0")
            right -= text_width(label, font_px) + 5 + self.radius(each)
            found.append((right, self.radius(each), label))
            right -= self.radius(each) + 14
        return tuple(found)


def scale_for(sizes: Sequence[float | None], is_narrow: bool) -> Scale:
    """Symbols get smaller where they are many or the picture is narrow."""
    largest_px = _LARGEST_PX * math.sqrt(min(1.0, _MANY / max(1, len(sizes))))
    return Scale(max(each or 0 for each in sizes), largest_px * (0.75 if is_narrow else 1))


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(power * each for each in (5, 2, 1) if power * each <= value * 1.000001))
