"""measure: how fast candidates are against a baseline, side by side.

Each candidate lives in a process of its own. It is warmed up until its times hold still; then
come rounds, and in each round every candidate gets one block of calls, in an order drawn anew.
What disturbs the machine for a while disturbs whole rounds, hence all candidates alike. While one
computes the others are idle, past their spinning, and the first call of each block does not
count, since it finds the caches full of the others' data.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxpress.engine import Session
from onnxpress.errors import InputError, OnnxpressError
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.machine import this_machine
from onnxpress.progress import Progress, silent
from onnxpress.runner import Artifact, EndToEnd, InProcess, Runner, Target
from onnxpress.signature import Feeds
from onnxpress.verbs.environment import environment, load_average
from onnxpress.verbs.executed import summary
from onnxpress.verbs.measured import Latency, Measured, Ratio, Row, compare
from onnxpress.worker import Worker

WARM_BLOCK_S, WARM_LIMIT_S, WARM_CHANGE = 0.05, 3.0, 0.05
"""Warm-up goes in blocks of the first, for as long as the second at most, until the medians of two
blocks differ by less than the third."""

WARM_UP = (
    f"blocks of {WARM_BLOCK_S * 1e3:.0f} ms until two medians differ by less than "
    f"{WARM_CHANGE:.0%}, {WARM_LIMIT_S:.0f} s at most; the first call of each block never counts"
)

LEAST_ROUNDS, LEAST_CALLS = MIN_ROUNDS, 3
"""However short the time is: so many rounds, and so many calls of each block that count (one where
a call takes longer than ``LONG_S``)."""

LONG_S = 1.0
"""A call that takes longer counts alone in its block: what disturbs it evens out within it."""

SILENT_S = 600.0
"""A worker that gives no answer for so long has failed."""

NOISY_SPREAD = 0.15
"""The standard deviation of the baseline's rounds, relative to their mean, that earns a warning."""


@dataclass(frozen=True)
class Candidate:
    """Something to measure.

    ``target`` is what a worker opens, or a session that is open already and stays so.
    ``requested`` is the precision that was asked for, ``size_bytes`` the size of the files,
    ``requests`` how many calls are timed at once: see ``Runner.time``.
    """

    name: str
    target: Target | Session
    engine: str
    requested: str
    size_bytes: int
    requests: int = 1


def open_runner(target: Target | Session) -> Runner:
    """A worker for what another process can open, a runner in this one for a live session."""
    return InProcess(target) if isinstance(target, Session) else Worker.open(target, SILENT_S)


def measure(
    candidates: Sequence[Candidate],
    feeds: Feeds,
    *,
    baseline: str,
    batch: int,
    rounds: int = 20,
    seconds: float | None = None,
    block_ms: float = 60.0,
    calls: int = LEAST_CALLS,
    seed: int = 0,
    progress: Progress = silent,
    runners: Mapping[str, Runner] | None = None,
    length: int | None = None,
) -> Measured:
    """Time ``candidates`` on ``feeds``, which hold ``batch`` records, against ``baseline``'s name.

    ``length`` is told in the rows: how many tokens each record has, where all have as many.
    Each of the ``rounds`` gives each candidate about ``block_ms`` milliseconds, and at least
    ``calls`` that count (one where a call takes longer than ``LONG_S``). There are fewer rounds
    where ``seconds``, opening and warm-up included, would be exceeded, but at least five.
    ``runners``, by candidate name, are used and left open; what has none is opened and closed
    here. A candidate that fails to open or to run is told in ``Measured.failures`` and does not
    stop the others; where it is the baseline, there are no speed-ups. Raises ``InputError``
    where the names are not unique or lack the baseline.
    """
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names) or baseline not in names:
        raise InputError(
            f"candidates {', '.join(names)}", f"unique names, the baseline '{baseline}' among them"
        )
    end = None if seconds is None else time.monotonic() + seconds
    surroundings, load = {**environment(), "warmup": WARM_UP}, load_average()
    with contextlib.ExitStack() as stack:
        at_once = {candidate.name: candidate.requests for candidate in candidates}
        bench = _Bench(at_once, len(names) * (3 + rounds), progress)
        for candidate in candidates:
            with bench.step(candidate.name, "opening"):
                runner = (runners or {}).get(candidate.name)
                if runner is None:
                    runner = open_runner(candidate.target)
                    stack.callback(runner.close)
                bench.runners[candidate.name] = runner
        least: dict[str, int] = {}
        for name in list(bench.runners):
            with bench.step(name, "warming up"):
                call_s = _warm_up(bench.runners[name], feeds, calls)
                least[name] = calls if call_s < LONG_S else 1
        order = random.Random(seed)
        blocks = _interleaved(bench, feeds, rounds, end, block_ms / 1e3, least, order)
        rows = {}
        for candidate in candidates:
            if candidate.name in bench.runners:
                with bench.step(candidate.name, "reading"):
                    runner = bench.runners[candidate.name]
                    row = _row(candidate, runner, batch, length, blocks[candidate.name])
                    rows[candidate.name] = row
    medians = {name: tuple(statistics.median(b) * 1e3 for b in blocks[name]) for name in rows}
    return Measured(
        surroundings,
        baseline,
        tuple(_against(row, baseline, medians, seed) for row in rows.values()),
        rounds=max((len(times) for times in medians.values()), default=0),
        noisy=_noise(medians.get(baseline, ()), load),
        failures=bench.failures,
        round_ms=medians,
        seed=seed,
    )


class _Bench:
    """The runners that have not failed; the failures of the others; how far it went.

    ``requests`` has by name how many calls are timed at once.
    """

    def __init__(self, requests: Mapping[str, int], steps: int, progress: Progress) -> None:
        self._steps, self._done, self._progress = steps, 0, progress
        self.runners: dict[str, Runner] = {}
        self.failures: dict[str, str] = {}
        self.requests = requests

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """One step of one candidate: an error of ours is its last."""
        self._progress(f"{what} {name}", self._done, self._steps)
        self._done += 1
        try:
            yield
        except OnnxpressError as error:
            self.failures[name] = str(error)
            self.runners.pop(name, None)


def _warm_up(runner: Runner, feeds: Feeds, calls: int) -> float:
    """The median of the last block, in seconds."""
    end = time.monotonic() + WARM_LIMIT_S
    before = 0.0
    while time.monotonic() < end:
        now = statistics.median(runner.time(feeds, WARM_BLOCK_S, calls))
        if abs(now - before) < WARM_CHANGE * before:
            return now
        before = now
    return before


def _interleaved(
    bench: _Bench,
    feeds: Feeds,
    rounds: int,
    end: float | None,
    block_s: float,
    least: Mapping[str, int],
    order: random.Random,
) -> dict[str, list[list[float]]]:
    """Candidate → for each round the seconds of the calls that count, ``least`` of them."""
    blocks: dict[str, list[list[float]]] = {name: [] for name in bench.runners}
    longest = 0.0
    for done in range(rounds):
        started = time.monotonic()
        if end is not None and done >= LEAST_ROUNDS and started + longest > end:
            break
        for name in order.sample(list(bench.runners), len(bench.runners)):
            with bench.step(name, f"round {done + 1}:"):
                runner, requests = bench.runners[name], bench.requests[name]
                calls = runner.time(feeds, block_s, least[name] + 1, requests)
                blocks[name].append(calls[1:])
        longest = max(longest, time.monotonic() - started)
    return blocks


def _row(
    candidate: Candidate,
    runner: Runner,
    batch: int,
    length: int | None,
    blocks: Sequence[Sequence[float]],
) -> Row:
    latency, peak = Latency.of(blocks), runner.peak_rss_bytes()
    return Row(
        name=candidate.name,
        engine=candidate.engine,
        requested=candidate.requested,
        executed=summary(runner.executed()),
        batch=batch,
        length=length,
        latency_ms=latency,
        throughput_per_s=batch * 1e3 / latency.typical,
        load_ms=runner.load_ms,
        peak_rss_bytes=peak,
        size_bytes=candidate.size_bytes,
        fallbacks=runner.fallbacks(),
        settings=_settings(candidate.target),
    )


def _settings(target: Target | Session) -> Mapping[str, object] | None:
    """What a file runs with, the number of threads that the engine takes included."""
    target = target.target if isinstance(target, EndToEnd) else target
    if not isinstance(target, Artifact):
        return None
    threads = target.settings.threads or this_machine().threads
    return target.settings.with_threads(threads).to_dict()


def _against(row: Row, baseline: str, medians: Mapping[str, Sequence[float]], seed: int) -> Row:
    if row.name == baseline:
        return replace(row, speedup=Ratio(1.0, 1.0, 1.0))
    if baseline not in medians:
        return row
    speedup = compare(medians[row.name], medians[baseline], seed)
    return replace(row, speedup=speedup, tie=speedup.tie)


def _noise(baseline: Sequence[float], load: float | None) -> str | None:
    """Why the times should not be trusted, or None."""
    why = []
    spread = statistics.stdev(baseline) / statistics.mean(baseline) if len(baseline) > 1 else 0.0
    if spread > NOISY_SPREAD:
        why.append(f"the baseline's rounds vary by {spread:.0%}")
    cores = this_machine().logical_cores
    if load is not None and load > cores + 1:  # what we did in the last minute counts, too
        why.append(f"other programs kept {load:.1f} threads running on {cores} cores")
    return f"this machine was busy: {' and '.join(why)}" if why else None
