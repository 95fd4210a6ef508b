"""Profiled: what ``profile`` found, by kernel, by operator and by module of the source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from onnxpress.engine import Event

NUMBER = re.compile(r"(?<![^./])\d+(?![^./])")
"""A part of a module's path that is a number: which of several layers it is."""


PEAK = (
    "the fastest of several float32 products of 512×512 and 1024×1024 matrices, on the same engine "
    "and threads"
)
"""What ``peak_gflops`` is, in words."""


@dataclass(frozen=True)
class Rate:
    """Work over time. ``gflops`` are 2 · MACs per second and 10⁹, None where nothing is known.

    ``share`` is that of the time of all kernels, ``peak_share`` that of the measured peak.
    """

    ms: float
    share: float
    macs: int | None
    gflops: float | None
    peak_share: float | None

    @classmethod
    def of(cls, ms: float, whole_ms: float, macs: int | None, peak_gflops: float) -> Rate:
        gflops = 2 * macs / ms / 1e6 if macs and ms > 0 else None
        return cls(
            ms,
            ms / whole_ms if whole_ms > 0 else 0.0,
            macs,
            gflops,
            None if gflops is None else gflops / peak_gflops,
        )


@dataclass(frozen=True)
class Node:
    """One kernel, as the engine ran it; ``layers`` are the file's nodes that it stands for.

    ``calls`` of one run, and what these took and multiplied together; ``bytes`` are those read and
    written, None where the engine does not tell.
    """

    name: str
    op: str
    provider: str
    implementation: str
    precision: str
    calls: int
    rate: Rate
    bytes: int | None
    module: str
    layers: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        fast = self.bytes is not None and self.rate.ms > 0
        return {
            "name": self.name,
            "op": self.op,
            "provider": self.provider,
            **asdict(self.rate),
            "module": self.module,
            "calls": self.calls,
            "precision": self.precision,
            "implementation": self.implementation,
            "bytes": self.bytes,
            "gbytes_per_s": (self.bytes or 0) / self.rate.ms / 1e6 if fast else None,
            "layers": list(self.layers),
        }


@dataclass(frozen=True)
class Sum:
    """All kernels of one operator or one module; ``rate.macs`` of those that are known."""

    name: str
    count: int
    rate: Rate

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "count": self.count, **asdict(self.rate)}


@dataclass(frozen=True)
class Profiled:
    """Where the time of one model goes. Times are milliseconds of one run of ``batch`` records.

    ``total_ms`` is the median latency without a profiler and ``rounds_ms`` that of each round;
    ``profiled_ms`` is one of ``runs`` with it, whose kernels take ``nodes_ms`` together.
    ``untold_ms`` is what ``total_ms`` has beyond these: below 0 where the profiler slows more.
    """

    name: str
    engine: str
    threads: int
    batch: int
    shapes: Mapping[str, Sequence[int]]
    total_ms: float
    rounds_ms: tuple[float, ...]
    profiled_ms: float
    runs: int
    method: str
    peak_gflops: float
    nodes: tuple[Node, ...]
    environment: Mapping[str, object]
    warnings: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    events: tuple[Event, ...] = field(default=(), repr=False)

    @property
    def nodes_ms(self) -> float:
        return sum(node.rate.ms for node in self.nodes)

    @property
    def untold_ms(self) -> float:
        return self.total_ms - self.nodes_ms

    @property
    def by_op(self) -> tuple[Sum, ...]:
        """Slowest first."""
        return self._sums(lambda node: node.op)

    @property
    def by_module(self) -> tuple[Sum, ...]:
        """Slowest first; a module has its own kernels alone, not those of modules inside it."""
        return self._sums(lambda node: node.module)

    @property
    def modules_alike(self) -> tuple[Sum, ...]:
        """As ``by_module``; modules that differ by a number in their path are one: ``layer.*``."""
        paths = dict.fromkeys(node.module for node in self.nodes)
        alike: dict[str, list[str]] = {}
        for path in paths:
            alike.setdefault(NUMBER.sub("*", path), []).append(path)
        names = {path: _joined(group) for group in alike.values() for path in group}
        return self._sums(lambda node: names[node.module])

    def _sums(self, key: Callable[[Node], str]) -> tuple[Sum, ...]:
        groups: dict[str, list[Node]] = {}
        for node in self.nodes:
            groups.setdefault(key(node), []).append(node)
        sums = (Sum(name, len(nodes), self.rate(nodes)) for name, nodes in groups.items())
        return tuple(sorted(sums, key=lambda one: -one.rate.ms))

    def rate(self, nodes: Sequence[Node]) -> Rate:
        """Of several nodes together."""
        known = [node.rate.macs for node in nodes if node.rate.macs is not None]
        ms = sum(node.rate.ms for node in nodes)
        return Rate.of(ms, self.nodes_ms, sum(known) if known else None, self.peak_gflops)

    def to_dict(self) -> dict[str, object]:
        return {
            "model": self.name,
            "engine": self.engine,
            "threads": self.threads,
            "batch": self.batch,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "total_ms": self.total_ms,
            "nodes_ms": self.nodes_ms,
            "untold_ms": self.untold_ms,
            "profiled_ms": self.profiled_ms,
            "rounds_ms": list(self.rounds_ms),
            "runs": self.runs,
            "method": self.method,
            "peak_gflops": self.peak_gflops,
            "peak": PEAK,
            "verdict": list(self.verdict),
            "nodes": [node.to_dict() for node in self.nodes],
            "by_op": [one.to_dict() for one in self.by_op],
            "by_module": [one.to_dict() for one in self.by_module],
            "modules_alike": [one.to_dict() for one in self.modules_alike],
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
        }


def _joined(paths: Sequence[str]) -> str:
    """One path for several that differ by numbers alone: a star where they do."""
    first, columns = paths[0], [NUMBER.findall(path) for path in paths]
    differ = iter([len(set(column)) > 1 for column in zip(*columns, strict=True)])
    return NUMBER.sub(lambda found: "*" if next(differ) else found[0], first)
