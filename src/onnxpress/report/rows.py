"""The rows of the report: baseline and candidates as plain fields, read without trust.

The result may come from an older version or another tool: a field that is missing or of the
wrong type becomes None here, so that the renderers need no further care.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxpress.report.format import MISSING, number, text

STATISTICS = ("typical", "p50", "mean")
"""What stands for a latency: the first of them that every row has."""


@dataclass(frozen=True)
class Row:
    """One measured (or failed) form.

    ``number`` counts from 1 in order of latency and is the key between table and picture.
    ``latency_ms`` is the statistic that ``Rows.statistic`` names, ``length`` the tokens of each
    text in a sweep over lengths.
    """

    number: int
    name: str
    engine: str
    details: str
    is_baseline: bool
    is_chosen: bool
    latency_ms: float | None
    spread: Mapping[str, object]
    throughput_per_s: float | None
    load_ms: float | None
    peak_rss_bytes: float | None
    size_bytes: float | None
    quality: Mapping[str, object]
    speedup: Mapping[str, object]
    marks: tuple[str, ...]
    reason: str
    batch: float | None = None
    length: float | None = None

    @property
    def value(self) -> float | None:
        """The quality; None where it was not scored."""
        return number(self.quality.get("value"))

    @property
    def low(self) -> float | None:
        """The lower end of the quality's interval."""
        return number(self.quality.get("low"))

    @property
    def is_refused(self) -> bool:
        return bool({"below floor", "rejected", "not measured"} & set(self.marks))


@dataclass(frozen=True)
class Rows:
    """All rows by latency, the unmeasured last; ``statistic`` is one of ``STATISTICS``.

    A ``bench`` may have several ``batches`` and ``lengths``: then each one's rows stand together.
    """

    rows: tuple[Row, ...]
    statistic: str
    floor: float | None
    batches: tuple[float, ...] = ()
    lengths: tuple[float, ...] = ()

    @property
    def is_sweep(self) -> bool:
        return len(self.batches) > 1 or len(self.lengths) > 1

    @property
    def baseline(self) -> Row | None:
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def chosen(self) -> Row | None:
        return next((row for row in self.rows if row.is_chosen), None)

    @property
    def statistic_name(self) -> str:
        return "mean" if self.statistic == "mean" else "median"


def read_rows(result: Mapping[str, object]) -> Rows:
    """Baseline and candidates (in a ``bench``: rows) of ``result``, sorted and numbered."""
    raw = _raw_rows(result)
    spreads = [mapping(each.get("latency_ms")) for each, _ in raw]
    measured = [each for each in spreads if any(_latency(each, name) for name in STATISTICS)]
    statistic = next(
        (name for name in STATISTICS if all(_latency(each, name) for each in measured)), "mean"
    )
    floor = number(result.get("floor"))
    batches, lengths = (_sizes([each for each, _ in raw], key) for key in ("batch", "length"))

    def place(index: int) -> tuple[float, float, float]:
        batch, length = (number(raw[index][0].get(key)) for key in ("batch", "length"))
        if len(batches) < 2:
            batch = 0
        latency = _latency(spreads[index], statistic)
        return math.inf if batch is None else batch, length or 0, latency or math.inf

    order = sorted(range(len(raw)), key=place)
    rows = (
        _row(result, *raw[index], position, statistic, floor)
        for position, index in enumerate(order, 1)
    )
    return Rows(tuple(rows), statistic, floor, batches, lengths)


def _sizes(raw: Sequence[Mapping[str, object]], key: str) -> tuple[float, ...]:
    return tuple(sorted({size for each in raw if (size := number(each.get(key))) is not None}))


def _raw_rows(result: Mapping[str, object]) -> list[tuple[Mapping[str, object], bool]]:
    """The rows with whether each is the baseline, which a ``bench`` gives by its name."""
    baseline = result.get("baseline")
    raw = [(mapping(baseline), True)] if mapping(baseline) else []
    found = result.get("candidates") or result.get("rows")
    raw += [
        (each, isinstance(baseline, str) and each.get("name") == baseline)
        for each in map(mapping, sequence(found))
        if each
    ]
    failures, refused = mapping(result.get("failures")), mapping(result.get("refused"))
    for name, why in failures.items():
        row = {"name": name, "reason": why, "ok": False, "quality": refused.get(name)}
        raw.append((row, False))
    return raw


def mapping(value: object) -> Mapping[str, object]:
    """``value`` where it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[object]:
    """``value`` where it is a sequence, otherwise empty; a lone text is a sequence of one."""
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, Sequence) else ()


def _row(
    result: Mapping[str, object],
    raw: Mapping[str, object],
    is_baseline: bool,
    position: int,
    statistic: str,
    floor: float | None,
) -> Row:
    settings, spread = mapping(raw.get("settings")), mapping(raw.get("latency_ms"))
    quality = mapping(raw.get("quality"))
    chosen = result.get("chosen")
    is_chosen = not is_baseline and chosen is not None and raw.get("name") == chosen
    latency = _latency(spread, statistic)
    return Row(
        number=position,
        name=text(raw.get("name"), 120),
        engine=text(raw.get("engine") or settings.get("engine"), 40),
        details=_details(raw, settings, result.get("batch")),
        is_baseline=is_baseline,
        is_chosen=is_chosen,
        latency_ms=latency,
        spread=spread,
        throughput_per_s=number(raw.get("throughput_per_s")),
        load_ms=number(raw.get("load_ms")),
        peak_rss_bytes=number(raw.get("peak_rss_bytes")),
        size_bytes=number(raw.get("size_bytes")) or None,
        quality=quality,
        speedup=mapping(raw.get("speedup")),
        marks=_marks(raw, is_baseline, is_chosen, latency, quality, floor),
        reason="" if text(raw.get("reason")) == MISSING else text(raw.get("reason")),
        batch=_positive(raw.get("batch")),
        length=_positive(raw.get("length")),
    )


def _marks(
    raw: Mapping[str, object],
    is_baseline: bool,
    is_chosen: bool,
    latency: float | None,
    quality: Mapping[str, object],
    floor: float | None,
) -> tuple[str, ...]:
    if is_baseline:
        return ("baseline",)
    marks = ["chosen"] if is_chosen else []
    low = number(quality.get("low"))
    low = number(quality.get("value")) if low is None else low
    if latency is None:
        marks.append("not measured")
    elif raw.get("ok") is False:
        under = low is not None and floor is not None and low < floor
        marks.append("below floor" if under else "rejected")
    if raw.get("tie") is True:
        marks.append("tie")
    if not marks and raw.get("ok") is True:
        marks.append("ok")
    return tuple(marks)


def _details(raw: Mapping[str, object], settings: Mapping[str, object], batch: object) -> str:
    """Engine, provider, threads, precision and options on one line."""
    parts = [text(raw.get("engine") or settings.get("engine"))]
    parts += [text(settings.get("provider")).removesuffix("ExecutionProvider")]
    threads = number(settings.get("threads"))
    parts += [f"{threads:.0f} threads" if threads != 1 else "1 thread"] if threads else []
    parts.append(_precision(text(raw.get("requested")), text(raw.get("executed"))))
    hint = text(settings.get("precision"))
    parts += [f"hint {hint}"] if hint not in {MISSING, "float32"} else []
    parts += [f"{text(key)}={text(each)}" for key, each in mapping(settings.get("options")).items()]
    parts += [f"batch {text(raw['batch'])}"] if raw.get("batch") not in (None, batch) else []
    parts += [f"{text(raw['length'])} tokens"] if raw.get("length") is not None else []
    return " · ".join(part for part in parts if part and part != MISSING)


def _precision(requested: str, executed: str) -> str:
    if requested in (executed, MISSING):
        return executed
    return f"{requested} asked" + ("" if executed == MISSING else f", {executed} executed")


def _positive(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def _latency(spread: Mapping[str, object], statistic: str) -> float | None:
    found = number(spread.get(statistic))
    return found if found is not None and found > 0 else None
