"""The axes of the Pareto picture: from values to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOG_FROM = 5.0
_INSET = 26.0
_ABOVE = 0.6


@dataclass(frozen=True)
class Axis:
    """``pixel(value)`` is where a value lies; ``ticks`` are pixels with their text."""

    pixel: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False
    is_broken: bool = False


def latency_axis(values: Sequence[float], left: float, right: float) -> Axis:
    """Positive milliseconds to the right; logarithmic where they spread over ``LOG_FROM``."""
    low, high = min(values), max(values)
    is_log = high / low > LOG_FROM
    if high == low:
        low, high = low * 0.9, high * 1.1
    bend: Callable[[float], float] = math.log10 if is_log else float
    scale = (bend(high) - bend(low)) / (right - left - 2 * _INSET)
    start = bend(low) - _INSET * scale
    end = bend(high) + _INSET * scale
    if is_log:
        ticks = _log_ticks(10**start, 10**end)
    else:
        ticks = [each for each in _nice(start, end, 7) if each >= 0]

    def pixel(value: float) -> float:
        return left + (bend(value) - start) / scale

    return Axis(pixel, tuple((pixel(tick), f"{tick:,.12g}") for tick in ticks), is_log)


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Positive values from pixel ``start`` to ``end``, which may lie above it, by their logarithm.

    Of values that all are equal the axis spans a factor of two.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 1e-9:
        low, high = low - 0.15, high + 0.15
    inset = _INSET / 2 if end > start else -_INSET / 2
    scale = (high - low) / (end - start - 2 * inset)

    def pixel(value: float) -> float:
        return start + inset + (math.log10(value) - low) / scale

    first, last = 10 ** (low - inset * scale), 10 ** (high + inset * scale)
    ticks = _log_ticks(first, last)
    if len(ticks) < 3:
        ticks = _nice(first, last, 5)
    return Axis(pixel, tuple((pixel(tick), f"{tick:,.12g}") for tick in ticks), is_log=True)


def quality_axis(
    values: Sequence[float], lows: Sequence[float], floor: float | None, top: float, bottom: float
) -> Axis:
    """Quality upwards, in two linear scales where what fell below ``floor`` would crowd the rest.

    Then the part above the floor keeps ``_ABOVE`` of the height, so that the forms among which
    to choose stay apart.
    """
    marks = [] if floor is None else [floor]
    high, low = max([*values, *marks]), min([*values, *lows, *marks])
    if high - low < 1e-9:
        low, high = low - 0.005, high + 0.005
    start, end = bottom - _INSET, top + _INSET
    broken = floor is not None and 0 < high - floor < (floor - low) * (_ABOVE / (1 - _ABOVE)) / 2
    bend = floor if floor is not None and broken else low
    bend_at = start + (end - start) * (1 - _ABOVE) if broken else start

    def pixel(value: float) -> float:
        if broken and value < bend:
            return start + (value - low) / (bend - low) * (bend_at - start)
        return bend_at + (value - bend) / (high - bend) * (end - bend_at)

    above = _nice(bend, high, 5 if broken else 6)
    below = [tick for tick in _nice(low, bend, 4) if tick < bend] if broken else []
    ticks = [(pixel(tick), label) for tick, label in [*_labelled(below), *_labelled(above)]]
    apart = [each for each in ticks if not broken or abs(each[0] - bend_at) > 14]
    return Axis(pixel, tuple(apart), is_broken=broken)


def _labelled(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks with as many decimals as their step needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.1
    decimals = next((d for d in range(9) if abs(round(step, d) - step) < step / 1e6), 8)
    return [(tick, f"{tick:.{decimals}f}") for tick in ticks]


def _nice(start: float, end: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within the range."""
    rough = (end - start) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    first, last = math.ceil(start / step), math.floor(end / step)
    return [each * step for each in range(first, last + 1)]


def _log_ticks(start: float, end: float) -> list[float]:
    powers = range(math.floor(math.log10(start)), math.ceil(math.log10(end)) + 1)
    for within in ((1, 2, 5), (1, 2, 3, 5, 7)):
        ticks = [each * 10.0**power for power in powers for each in within]
        ticks = [tick for tick in ticks if start <= tick <= end]
        if len(ticks) >= 4:
            break
    return ticks[:: math.ceil(len(ticks) / 10)]
