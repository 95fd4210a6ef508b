"""Settings side by side: each in a process of its own, compared, then timed, some at a time."""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onnxpress.errors import EngineError, InputError, OnnxpressError
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.machine import Machine, this_machine
from onnxpress.progress import Progress
from onnxpress.runner import Artifact, Runner
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.task import DEFAULT_FLOOR, Bound, Quality
from onnxpress.verbs.measure import LEAST_CALLS, Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured, Ratio
from onnxpress.verbs.score import score
from onnxpress.verbs.tuned import Tried

OBJECTIVES = ("latency", "throughput")
SPENT = "the budget was spent"
GROUP = 4
"""Trials that are open at once, beside the baseline."""
SHORT_MS = 30.0
"""A block of a short measurement."""
DIFFERS = 0.05
"""The relative error (Euclidean, of an output) from which on a trial answers something else."""
SCORING_ROWS = 8


def check_search(objective: str, budget_s: float) -> None:
    """Raise ``InputError`` for an objective or a budget that there cannot be."""
    if objective not in OBJECTIVES:
        raise InputError(f"--objective {objective}", " or ".join(OBJECTIVES))
    if not 0 < budget_s < math.inf:
        raise InputError(f"--budget {budget_s:g}", "a number of seconds above 0")


@dataclass(frozen=True)
class Job:
    """What is tuned: a file, what its tensors mean, and the ``feeds`` of a timed call.

    ``machine`` is what may be used of this one.
    """

    path: Path
    size_bytes: int
    bound: Bound
    samples: Samples
    feeds: Feeds
    batch: int
    objective: str = "latency"
    machine: Machine = field(default_factory=this_machine)
    floor: float = DEFAULT_FLOOR


class Trials(contextlib.AbstractContextManager["Trials"]):
    """What was tried so far, by name, and the baseline, which stays open beside it.

    Entering raises ``EngineError`` where the baseline does not open or run.
    """

    def __init__(
        self, job: Job, start: Settings, deadline: float, seed: int, progress: Progress
    ) -> None:
        self._job, self._deadline, self._progress = job, deadline, progress
        self.baseline = f"{start.engine}, defaults"
        self.tried = {self.baseline: Tried(self.baseline, start, speedup=Ratio(1.0, 1.0, 1.0))}
        self.warnings: list[str] = []
        self._last: Measured | None = None
        self._order = random.Random(seed)
        self._opening_s, self._short_s, self._calls = 0.0, 0.0, LEAST_CALLS

    def __enter__(self) -> Trials:
        """Open the baseline, whose answers are the right ones."""
        begun = time.monotonic()
        self._runner = self._opened(self.tried[self.baseline])
        self._opening_s = time.monotonic() - begun
        try:
            self._right = self._runner.run(self._job.feeds)
            started = time.monotonic()
            self._runner.run(self._job.feeds)
        except BaseException:
            self._runner.close()
            raise
        call_s = time.monotonic() - started
        self._calls = LEAST_CALLS if call_s < SHORT_MS / 1e3 else 1  # long calls vary less
        calls = 2 * self._calls + MIN_ROUNDS * (self._calls + 1)
        self._short_s = self._opening_s + calls * max(call_s, SHORT_MS / 1e3 / LEAST_CALLS)
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def rung(
        self,
        trials: Sequence[Tried],
        rounds: int = MIN_ROUNDS,
        block_ms: float = SHORT_MS,
        *,
        last: bool = False,
    ) -> None:
        """Measure ``trials`` beside the baseline, some at a time, as long as there is time.

        All but the ``last`` rung leave time for that one, which takes what is left.
        """
        left = list(trials)
        while left:
            each = self._short_s * rounds / MIN_ROUNDS
            fits = GROUP if last else self._left_s(reserve=3 * self._short_s) / each - 1
            if fits < 1:
                break
            group, left = left[: min(GROUP, int(fits))], left[min(GROUP, int(fits)) :]
            with contextlib.ExitStack() as stack:
                runners = self._answering(group, stack)
                self._measure(group, runners, rounds, block_ms)
        for trial in left:
            known = self.tried.get(trial.name, trial)
            if known.speedup is None:
                self.tried[trial.name] = replace(known, reason=SPENT)

    def _left_s(self, reserve: float = 0.0) -> float:
        return self._deadline - time.monotonic() - reserve

    def _answering(self, group: Sequence[Tried], stack: contextlib.ExitStack) -> dict[str, Runner]:
        """Those that open and answer what the baseline does."""
        runners = {}
        for trial in group:
            try:
                runner = self._opened(trial)
                stack.callback(runner.close)
                wrong = _difference(runner.run(self._job.feeds), self._right)
            except OnnxpressError as error:
                self._fail(trial, str(error))
                continue
            if wrong > DIFFERS:
                self._fail(trial, f"its answers differ by {wrong:.2g} of their size")
                continue
            runners[trial.name] = runner
        return runners

    def _measure(
        self,
        group: Sequence[Tried],
        runners: Mapping[str, Runner],
        rounds: int,
        block_ms: float,
    ) -> None:
        trials = [self.tried[self.baseline], *(one for one in group if one.name in runners)]
        if len(trials) == 1:
            return
        started = time.monotonic()
        measured = measure(
            [self._candidate(trial) for trial in trials],
            self._job.feeds,
            baseline=self.baseline,
            batch=self._job.batch,
            rounds=rounds,
            seconds=max(self._left_s(), 0.0),
            block_ms=block_ms,
            calls=self._calls,
            seed=self._order.randrange(1 << 30),
            progress=self._progress,
            runners={self.baseline: self._runner, **runners},
        )
        if self.baseline in measured.failures:
            raise EngineError(measured.failures[self.baseline])
        took = self._opening_s + (time.monotonic() - started) / len(trials)
        self._short_s = max(self._short_s, took * MIN_ROUNDS / measured.rounds)
        self._last = measured
        self._note(trials, measured)

    def _note(self, trials: Sequence[Tried], measured: Measured) -> None:
        rows = {row.name: row for row in measured.rows}
        if measured.noisy:
            self.warnings = [measured.noisy]  # the last measurement decides, and its noise counts
        for trial in trials:
            if trial.name in measured.failures:
                self._fail(trial, measured.failures[trial.name])
                continue
            row = rows[trial.name]
            self.tried[trial.name] = replace(
                trial,
                rungs=trial.rungs + 1,
                latency_ms=row.latency_ms.typical,
                throughput_per_s=row.throughput_per_s,
                speedup=row.speedup,
            )

    def _fail(self, trial: Tried, why: str) -> None:
        """It is out of the search, whatever it did before."""
        self.tried[trial.name] = replace(trial, speedup=None, latency_ms=None, reason=why)

    def quality(self, trial: Tried) -> Quality | None:
        """Only where it computes in another precision: else its answers were compared already."""
        if trial.settings.precision == self.tried[self.baseline].settings.precision:
            return None
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxpress-")))
            runner = self._opened(trial)
            stack.callback(runner.close)
            runners = {self.baseline: self._runner, trial.name: runner}
            qualities, failures = score(
                runners,
                self.baseline,
                self._job.bound,
                self._job.samples,
                folder,
                SCORING_ROWS,
                self._progress,
            )
            for why in failures.values():
                raise EngineError(why)
            return qualities[trial.name]

    def tie(self, one: Tried, other: Tried) -> bool:
        """Whether the last measurement, which both were in, does not tell which is faster."""
        return self._last is not None and self._last.compare(one.name, other.name).tie

    def by_speed(self) -> list[Tried]:
        """What was timed, the fastest first, without the baseline."""
        timed = [one for one in self.tried.values() if one.speedup and one.name != self.baseline]
        return sorted(timed, key=lambda trial: trial.speed, reverse=True)

    def _opened(self, trial: Tried) -> Runner:
        return open_runner(Artifact(self._job.path, trial.settings))

    def _candidate(self, trial: Tried) -> Candidate:
        settings = trial.settings
        target = Artifact(self._job.path, settings)
        size = self._job.size_bytes
        return Candidate(
            trial.name, target, settings.engine, settings.precision, size, settings.requests
        )


def _difference(outputs: Feeds, right: Feeds) -> float:
    """The greatest relative error of an output, as Euclidean norms; infinite for another shape."""
    worst = 0.0
    for name, array in right.items():
        other = outputs[name]
        if other.shape != array.shape:
            return float("inf")
        if array.dtype.kind not in "fc":
            worst = max(worst, float(np.mean(other != array)) if array.size else 0.0)
            continue
        known = np.isfinite(array)
        if not np.array_equal(known, np.isfinite(other)):
            return float("inf")
        size = float(np.linalg.norm(array[known].astype(np.float64))) or 1.0
        apart = (other[known].astype(np.float64) - array[known].astype(np.float64)).ravel()
        worst = max(worst, float(np.linalg.norm(apart)) / size)
    return worst
