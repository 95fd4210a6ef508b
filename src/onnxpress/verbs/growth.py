"""How the memory of a sweep grows from point to point, so that it ends before the machine swaps."""

from __future__ import annotations

from onnxpress.verbs.measured import Measured
from onnxpress.verbs.sweep import Point


class Growth:
    """Takes in what was measured, the least work first, and foretells what a larger point takes.

    All candidates stay open from point to point, hence what they hold adds up. It grows with the
    work at least as a straight line does.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory = memory_bytes
        self._known: list[tuple[Point, int]] = []

    def add(self, point: Point, measured: Measured) -> None:
        peaks = [row.peak_rss_bytes for row in measured.rows]
        known = [peak for peak in peaks if peak is not None]
        if known and len(known) == len(peaks) and not measured.failures:
            self._known.append((point, sum(known)))

    def refusal(self, point: Point) -> str:
        """Why ``point`` should not be tried; empty where nothing speaks against it."""
        if len(self._known) < 2:
            return ""
        (low, low_bytes), (high, high_bytes) = self._known[0], self._known[-1]
        if not low.work < high.work < point.work:
            return ""
        slope = (high_bytes - low_bytes) / (high.work - low.work)
        needed = high_bytes + slope * (point.work - high.work)
        if needed <= self._memory or not self._memory:
            return ""
        return (
            f"{point} would take about {needed / 1e9:.3g} GB of the {self._memory / 1e9:.3g} GB of "
            f"this machine, as memory grew from {low} to {high}; it was not timed"
        )
