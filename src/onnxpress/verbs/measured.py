"""Measured: what ``measure`` found, one row for each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from onnxpress.intervals import ratio_interval, typical
from onnxpress.task import Quality

TOLD = 5
"""Names of nodes that a sentence has."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call over all calls that count.

    ``typical`` is what speed-ups are ratios of: see ``intervals.typical``.
    """

    mean: float
    std: float
    p50: float
    p95: float
    p99: float
    typical: float

    @classmethod
    def of(cls, blocks: Sequence[Sequence[float]]) -> Latency:
        """``blocks`` holds the seconds of each round's calls, at least one."""
        times = np.concatenate([np.asarray(block) for block in blocks]) * 1e3
        medians = [float(np.median(block)) * 1e3 for block in blocks]
        p50, p95, p99 = (float(p) for p in np.percentile(times, (50, 95, 99)))
        return cls(float(times.mean()), float(times.std()), p50, p95, p99, typical(medians))

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the rounds do not tell which one is faster."""
        return self.low <= 1 <= self.high

    def over(self, other: Ratio) -> Ratio:
        """How many times as fast as ``other``, where both are relative to the same.

        The interval is that of the ends, hence wider than of rounds that had both.
        """
        return Ratio(self.value / other.value, self.low / other.high, self.high / other.low)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One candidate.

    ``requested`` and ``executed`` are precisions, the latter as ``verbs.executed.summary`` puts
    it. ``throughput_per_s`` counts records: ``batch`` of them per typical call, one at a time.
    ``length`` is that of each text in tokens, in a sweep over lengths.
    ``load_ms`` and ``peak_rss_bytes`` are those of ``Runner``. ``speedup`` is None where the
    baseline failed; the baseline itself has exactly 1 and is no tie. ``quality`` is for those
    who know the reference to fill in. ``fallbacks`` are the nodes that run elsewhere than on the
    provider that was asked for. ``settings`` are a file's, as ``Settings.to_dict`` has them.
    """

    name: str
    engine: str
    requested: str
    executed: str
    batch: int
    latency_ms: Latency
    throughput_per_s: float
    load_ms: float | None
    peak_rss_bytes: int | None
    size_bytes: int
    quality: Quality | None = None
    speedup: Ratio | None = None
    tie: bool = False
    length: int | None = None
    fallbacks: tuple[str, ...] = ()
    settings: Mapping[str, object] | None = None

    @property
    def fallen(self) -> str:
        """The fallbacks as a sentence; empty where there are none."""
        return f"{self.name}: {told_fallbacks(self.fallbacks)}" if self.fallbacks else ""

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "engine": self.engine,
            "requested": self.requested,
            "executed": self.executed,
            "batch": self.batch,
            "length": self.length,
            "latency_ms": self.latency_ms.to_dict(),
            "throughput_per_s": self.throughput_per_s,
            "load_ms": self.load_ms,
            "peak_rss_bytes": self.peak_rss_bytes,
            "size_bytes": self.size_bytes,
            "quality": None if self.quality is None else self.quality.to_dict(),
            "speedup": None if self.speedup is None else self.speedup.to_dict(),
            "tie": self.tie,
            "fallbacks": list(self.fallbacks),
            "settings": dict(self.settings) if self.settings is not None else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """What ``to_dict`` gave."""
        quality, speedup = data["quality"], data["speedup"]
        return cls(
            **{
                **data,
                "latency_ms": Latency(**data["latency_ms"]),
                "quality": None if quality is None else Quality(**quality),
                "speedup": None if speedup is None else Ratio(**speedup),
                "fallbacks": tuple(data.get("fallbacks", ())),
            }
        )


@dataclass(frozen=True)
class Measured:
    """The rows in the candidates' order, and how they were got.

    ``failures`` tells by name why a candidate has no row. ``noisy`` is a warning where the
    machine was too busy to trust the times, else None. ``round_ms`` holds by name the median
    latency of each of the ``rounds``: medians, so that one stray call does not move a ratio.
    ``notes`` tell of what the user should know, ``refused`` by name the quality of what was scored
    and, since it is too low, not timed.
    """

    environment: Mapping[str, object]
    baseline: str
    rows: tuple[Row, ...]
    rounds: int
    noisy: str | None
    failures: Mapping[str, str] = field(default_factory=dict)
    round_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seed: int = 0
    notes: tuple[str, ...] = ()
    refused: Mapping[str, Quality] = field(default_factory=dict)

    def with_results(
        self, qualities: Mapping[str, Quality], failures: Mapping[str, str]
    ) -> Measured:
        """With the rows' qualities by name, and the failures of an earlier step."""
        rows = tuple(replace(row, quality=qualities.get(row.name)) for row in self.rows)
        return replace(self, rows=rows, failures={**failures, **self.failures})

    def compare(self, name: str, other: str) -> Ratio:
        """How many times as fast ``name`` is as ``other``: see ``ratio_interval``.

        Raises ``KeyError`` where one of them has no row.
        """
        return compare(self.round_ms[name], self.round_ms[other], self.seed)

    def to_dict(self) -> dict[str, object]:
        return {
            "environment": dict(self.environment),
            "baseline": self.baseline,
            "rounds": self.rounds,
            "noisy": self.noisy,
            "failures": dict(self.failures),
            "round_ms": {name: list(times) for name, times in self.round_ms.items()},
            "seed": self.seed,
            "refused": {name: quality.to_dict() for name, quality in self.refused.items()},
            "rows": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measured:
        """What ``to_dict`` gave."""
        return cls(
            environment=data["environment"],
            baseline=data["baseline"],
            rows=tuple(Row.from_dict(row) for row in data["rows"]),
            rounds=data["rounds"],
            noisy=data["noisy"],
            failures=data["failures"],
            round_ms={name: tuple(times) for name, times in data["round_ms"].items()},
            seed=data["seed"],
            refused={name: Quality(**each) for name, each in data.get("refused", {}).items()},
        )


def told_fallbacks(nodes: Sequence[str]) -> str:
    """How many nodes fell back to the CPU, the first of them by name."""
    told = ", ".join(nodes[:TOLD]) + (", …" if len(nodes) > TOLD else "")
    return f"{len(nodes)} nodes fell back to the CPU: {told}"


def compare(times: Sequence[float], others: Sequence[float], seed: int) -> Ratio:
    """How many times as fast ``times`` is as ``others``, two sequences paired by round."""
    return Ratio(*ratio_interval(others, times, seed))
