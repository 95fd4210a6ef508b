"""Runners: one opened candidate each, that runs, takes its own time and knows its memory.

A ``Runner`` is either ``InProcess``, around a session of this process, or a
``onnxpress.worker.Worker``, which lives in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from onnxpress import registry
from onnxpress.engine import Engine, Executed, Session, require
from onnxpress.errors import SourceError
from onnxpress.pipeline import Pipeline
from onnxpress.processing import Processing
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.task import Task

if TYPE_CHECKING:
    from onnxpress.source import OpenOptions, Origin

QUIET_S, QUIET_LIMIT_S = 0.02, 0.5
"""A process is idle once it used next to no CPU for the first; the second bounds the wait."""


@dataclass(frozen=True)
class Artifact:
    """A file and how to run it."""

    path: Path
    settings: Settings

    def __str__(self) -> str:
        return f"{self.path.name} on {self.settings.engine}"


@dataclass(frozen=True)
class OriginRef:
    """The user's own model by reference, so that another process can open it again.

    ``fingerprint`` is what ``Origin.fingerprint`` said in this process. ``compiled`` asks for
    ``Origin.compiled_session``.
    """

    ref: str
    options: OpenOptions
    threads: int | None
    fingerprint: str
    compiled: bool = False

    def __str__(self) -> str:
        return self.ref


@dataclass(frozen=True)
class EndToEnd:
    """A target with what stands before and behind it: its session is a pipeline.

    An origin's own where it has one; else what ``task`` makes of ``signature`` and ``processing``.
    """

    target: Artifact | OriginRef
    task: str
    signature: Signature
    processing: Processing | None

    def __str__(self) -> str:
        return str(self.target)


Target = Artifact | OriginRef | EndToEnd


class Unrepeatable(SourceError):
    """A reference that builds another model each time: unseeded weights, for example."""


class Runner(Protocol):
    """What is measured. One call at a time; calls from several threads wait for each other."""

    @property
    def signature(self) -> Signature: ...

    @property
    def load_ms(self) -> float | None:
        """Milliseconds to open it in a fresh process; None where it was open already."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """As ``Session.run``."""

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        """Seconds of each of consecutive calls: at least ``min_calls``, for about ``seconds``.

        With several ``requests`` so many calls are under way at once, and each counts as the time
        that all took over their number: what one costs, not how long it takes.

        Returns once the process is idle again: the threads of ONNX Runtime spin for 50 ms after
        a run, those of OpenMP for up to 200 ms, and would slow down whoever runs next.
        """

    def executed(self) -> tuple[Executed, ...]:
        """As ``Session.executed``. What it takes to find out does not count as peak memory."""

    def fallbacks(self) -> tuple[str, ...]:
        """As ``Session.fallbacks``."""

    def peak_rss_bytes(self) -> int | None:
        """The most resident memory its process ever held, interpreter and feeds included.

        None where the process is shared with others.
        """

    def close(self) -> None:
        """Free what the runner opened. Closing twice is harmless."""


class InProcess:
    """A runner around a session of this process, which stays open: its owner closes it."""

    load_ms: float | None = None

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def signature(self) -> Signature:
        return self._session.signature

    def run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        return self._session.run(feeds)

    def time(
        self,
        feeds: Mapping[str, np.ndarray],
        seconds: float,
        min_calls: int = 1,
        requests: int = 1,
    ) -> list[float]:
        calls: list[float] = []
        begun = time.perf_counter()
        if requests > 1:
            calls = self._overlapped(feeds, begun + seconds, max(min_calls, requests), requests)
        else:
            while len(calls) < min_calls or time.perf_counter() < begun + seconds:
                started = time.perf_counter()
                self._session.run(feeds)
                calls.append(time.perf_counter() - started)
        _until_idle()
        return calls

    def _overlapped(
        self, feeds: Mapping[str, np.ndarray], end: float, min_calls: int, requests: int
    ) -> list[float]:
        for future in [self._session.submit(feeds) for _ in range(requests)]:
            future.result()  # each thread's first call makes what it runs with
        begun, count = time.perf_counter(), requests
        under_way = deque(self._session.submit(feeds) for _ in range(requests))
        while under_way:
            under_way.popleft().result()
            if count < min_calls or time.perf_counter() < end:
                under_way.append(self._session.submit(feeds))
                count += 1
        return [(time.perf_counter() - begun) / count] * count

    def executed(self) -> tuple[Executed, ...]:
        return self._session.executed()

    def fallbacks(self) -> tuple[str, ...]:
        return self._session.fallbacks()

    def peak_rss_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing: the session's owner closes it."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_target(target: Target, stack: contextlib.ExitStack) -> tuple[Session, float]:
    """Open ``target`` until ``stack`` closes; the session and the milliseconds it took.

    The time is that of ``Engine.open`` alone, with the engine's package imported already; for an
    origin that of reading it (the user's code included, and compiling it where that is asked for),
    with the framework imported already.
    Raises ``Unrepeatable`` where an origin's fingerprint is not the expected one.
    """
    if isinstance(target, EndToEnd):
        return _open_pipeline(target, stack)
    if isinstance(target, Artifact):
        engine = registry.create(Engine, "engines", target.settings.engine)
        require(engine, target.settings.engine)
        _import_if_there(target.settings.engine)
        started = time.perf_counter()
        session = stack.enter_context(engine.open(target.path, target.settings))
        return session, (time.perf_counter() - started) * 1e3

    origin, opened_ms = _open_origin(target, stack)
    started = time.perf_counter()
    opens = origin.compiled_session if target.compiled else origin.session
    session = stack.enter_context(opens(target.threads))
    return session, opened_ms + (time.perf_counter() - started) * 1e3


def _open_pipeline(target: EndToEnd, stack: contextlib.ExitStack) -> tuple[Session, float]:
    """What tokenizers and the like take to open counts as well."""
    inner = target.target
    if isinstance(inner, OriginRef) and not inner.compiled:
        origin, opened_ms = _open_origin(inner, stack)
        started = time.perf_counter()
        own = origin.pipeline(inner.threads)
        session = own or origin.session(inner.threads)
    else:
        own = None
        session, opened_ms = open_target(inner, stack)
        started = time.perf_counter()
    if own is None:
        task = registry.create(Task, "tasks", target.task)
        own = Pipeline(session, task.bind(target.signature, target.processing))
    return stack.enter_context(own), opened_ms + (time.perf_counter() - started) * 1e3


def _open_origin(target: OriginRef, stack: contextlib.ExitStack) -> tuple[Origin, float]:
    from onnxpress.source import Source, open_source

    kind = target.ref.partition(":")[0].replace("-", "_")
    if kind in registry.names("sources"):
        registry.create(Source, "sources", kind).warm(kind)
    started = time.perf_counter()
    origin = stack.enter_context(open_source(target.ref, target.options))
    opened_ms = (time.perf_counter() - started) * 1e3
    if origin.fingerprint() != target.fingerprint:
        raise Unrepeatable(
            f"{target.ref} builds another model each time it is opened",
            "the same weights and code",
            "seed it, or give the weights with --checkpoint",
        )
    return origin, opened_ms


def peak_rss_bytes() -> int:
    """The most resident memory that this process ever held, in bytes.

    ``VmHWM`` where there is ``/proc``: ``ru_maxrss`` there still holds what the parent had when
    it forked.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let ``peak_rss_bytes`` begin again at what is resident now; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _import_if_there(package: str) -> None:
    """Plug-ins bear the name of the package that they wrap; those that wrap none import nothing."""
    if importlib.util.find_spec(package) is not None:
        importlib.import_module(package)


def _until_idle() -> None:
    """Wait until no thread of this process computes or spins any more."""
    end = time.perf_counter() + QUIET_LIMIT_S
    while time.perf_counter() < end:
        used = time.process_time()
        time.sleep(QUIET_S)
        if time.process_time() - used < 0.05 * QUIET_S:
            return
