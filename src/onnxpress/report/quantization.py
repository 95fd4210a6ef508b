"""The pictures of what int8 did: sizes, the error of each layer, histograms of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnxpress.report.format import number, significant, size, text
from onnxpress.report.rows import Row, Rows, sequence


@dataclass(frozen=True)
class Bar:
    """``share`` is the bar's length, 0 to 1; ``told`` the number beside it."""

    name: str
    share: float
    told: str
    strong: bool = False


@dataclass(frozen=True)
class Histogram:
    """``columns`` are (x, height) in shares of the picture; the range lies between two shares.

    ``columns`` are as high as the logarithm of what they count.
    """

    tensor: str
    columns: tuple[tuple[float, float], ...]
    width: float
    from_share: float
    to_share: float
    seen: str
    chosen: str
    error: str


@dataclass(frozen=True)
class Quantization:
    """What the section shows; any part of it may be empty."""

    form: str
    sizes: tuple[Bar, ...]
    layers: tuple[Bar, ...]
    histograms: tuple[Histogram, ...]


def quantization(result: Mapping[str, object], rows: Rows) -> Quantization | None:
    """None where nothing was recorded."""
    raw = result.get("quantization")
    if not isinstance(raw, Mapping):
        return None
    layers = [
        (text(each.get("node"), 200), number(each.get("error"))) for each in _maps(raw, "layers")
    ]
    known = [(name, error) for name, error in layers if error is not None and error >= 0]
    most = max((error for _, error in known), default=0.0)
    return Quantization(
        text(raw.get("form"), 80),
        _sizes(rows),
        tuple(Bar(name, error / most if most else 0.0, percent(error)) for name, error in known),
        tuple(filter(None, map(_histogram, _maps(raw, "tensors")))),
    )


def _maps(raw: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    return [each for each in sequence(raw.get(key)) if isinstance(each, Mapping)]


def _sizes(rows: Rows) -> tuple[Bar, ...]:
    """One bar for each size and precision; forms that share a file share a bar."""
    found: dict[float, list[Row]] = {}
    for row in rows.rows:
        if row.size_bytes and not row.is_baseline:
            found.setdefault(row.size_bytes, []).append(row)
    most = max(found, default=1)
    return tuple(
        Bar(
            ", ".join(row.name for row in named),
            bytes_ / most,
            size(bytes_),
            any(row.is_chosen for row in named),
        )
        for bytes_, named in sorted(found.items(), reverse=True)
    )


def percent(share: float) -> str:
    """``0.8 %``; less than a thousandth of one per cent is ``< 0.001 %``."""
    return f"{significant(share * 100)} %" if share >= 1e-5 else "< 0.001 %"


def _histogram(raw: Mapping[str, object]) -> Histogram | None:
    counts = [number(count) or 0.0 for count in sequence(raw.get("counts"))]
    values = [number(raw.get(key)) for key in ("low", "high", "seen_low", "seen_high", "error")]
    if not counts or any(value is None for value in values):
        return None
    low, high, seen_low, seen_high, error = (float(value or 0) for value in values)
    least, most = min(low, seen_low), max(high, seen_high)
    span = (most - least) or 1.0
    step = (seen_high - seen_low) / len(counts)
    top = math.log1p(max(counts)) or 1.0
    return Histogram(
        text(raw.get("tensor"), 200),
        tuple(
            ((seen_low + index * step - least) / span, math.log1p(max(0.0, count)) / top)
            for index, count in enumerate(counts)
        ),
        step / span,
        (low - least) / span,
        (high - least) / span,
        f"{seen_low:.4g} to {seen_high:.4g}",
        f"{low:.4g} to {high:.4g}",
        percent(error),
    )
