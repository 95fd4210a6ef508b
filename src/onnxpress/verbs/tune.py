"""tune: the settings that run one file fastest on this machine.

First every engine's defaults, then each of its knobs alone, then the changes that helped together:
a short measurement each. The better half goes on to a measurement of twice as many rounds, and so
on (successive halving, Jamieson and Talwalkar 2016, arXiv:1502.07943), until two are left; the
last one decides by its interval. Every trial runs in a process of its own, beside the baseline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpress import registry
from onnxpress.engine import Engine, Knob
from onnxpress.intervals import MIN_ROUNDS
from onnxpress.progress import Progress, silent
from onnxpress.settings import Settings
from onnxpress.task import Quality
from onnxpress.verbs.environment import environment
from onnxpress.verbs.measured import Ratio
from onnxpress.verbs.trials import SPENT, Job, Trials
from onnxpress.verbs.tuned import Effect, Tried, Tuned

LAST_ROUNDS, LONG_MS = 20, 60.0
"""Of the last measurement: its rounds, where there is time for them, and a block's milliseconds."""
HELPS = 1.03
"""What a change gains alone, at least, to be combined with others."""
FAR = 0.7
"""An engine whose defaults are surely slower than this share of the best is not tuned."""


def tune(
    job: Job,
    starts: Sequence[Settings],
    *,
    budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress = silent,
) -> Tuned:
    """Search from ``starts``, each engine's settings untuned; the first is the baseline.

    Takes about ``budget_s`` seconds, and as long as the first and the last measurement need at
    least. Raises ``EngineError`` where the baseline does not open or run.
    """
    begun = time.monotonic()
    with Trials(job, starts[0], begun + budget_s, seed, progress) as trials:
        search = _Search(trials, job)
        search.explore(starts[1:])
        best, quality = search.decide()
    return Tuned(
        best=best.settings,
        baseline=starts[0],
        speedup=best.speedup or Ratio(1.0, 1.0, 1.0),
        trials=tuple(trials.tried.values()),
        mattered=tuple(search.effects()),
        objective=job.objective,
        batch=job.batch,
        quality=quality,
        budget_s=budget_s,
        spent_s=time.monotonic() - begun,
        environment=environment(),
        warnings=tuple(dict.fromkeys([*search.untried(), *trials.warnings])),
    )


class _Search:
    def __init__(self, trials: Trials, job: Job) -> None:
        self._trials, self._job = trials, job

    @property
    def _first(self) -> Tried:
        return self._trials.tried[self._trials.baseline]

    def _fastest(self, trials: Sequence[Tried]) -> list[Tried]:
        """As they are known now, the fastest first."""
        known = [self._trials.tried[trial.name] for trial in trials]
        return sorted(known, key=lambda trial: trial.speed, reverse=True)

    def explore(self, others: Sequence[Settings]) -> None:
        """Engines, then knobs, then what helped together."""
        engines = [Tried(f"{one.engine}, defaults", one) for one in others]
        self._trials.rung(engines)
        starts = self._fastest([self._first, *engines])
        near = [start for start in starts if not _far(start.speedup, starts[0].speedup)]
        # Engines take turns, so that time that runs out is missing at all of them.
        singles = [list(_singles(start, self._knobs(start))) for start in near]
        longest = max(map(len, singles), default=0)
        turns = [one[i] for i in range(longest) for one in singles if i < len(one)]
        self._trials.rung(turns)
        for start in near:
            self._trials.rung(list(self._combined(start)))

    def decide(self) -> tuple[Tried, Quality | None]:
        """Measure the best again and longer, half of them each time; the last, or the baseline."""
        left = [trial for trial in self._trials.by_speed() if trial.speed > 1]
        rounds = MIN_ROUNDS
        while len(left) > 4:
            left, rounds = left[: -(-len(left) // 2)], min(2 * rounds, LAST_ROUNDS)
            self._trials.rung(left, rounds)
            left = self._fastest(left)
        finals: list[Tried] = []
        while left and not finals:  # where both fail, the next two have their turn
            two, left = left[:2], left[2:]
            self._trials.rung(two, LAST_ROUNDS, LONG_MS, last=True)
            finals = [one for one in self._fastest(two) if one.speedup]
        finals = [one for one in finals if one.speedup and one.speedup.low > 1]
        if len(finals) == 2 and self._trials.tie(*finals):  # then the fewer changes
            finals.sort(key=lambda trial: len(trial.changes or ()))
        for trial in finals:
            quality = self._trials.quality(trial)
            if quality is None or quality.low >= self._job.floor:
                return trial, quality
            why = f"quality {quality.value:.4f} is below the floor {self._job.floor:g}"
            self._trials.tried[trial.name] = replace(trial, reason=why)
        return replace(self._first, speedup=None), None

    def untried(self) -> Iterator[str]:
        """What the budget was too short for, as a warning."""
        left = [one for one in self._trials.tried.values() if one.reason == SPENT]
        if left:
            yield f"the budget was too short to try {len(left)} settings: give a longer --budget"

    def effects(self) -> Iterator[Effect]:
        """Of every change that was measured alone, the greatest first; of engines, too."""
        found = []
        for trial in self._trials.tried.values():
            start = self._trials.tried[f"{trial.settings.engine}, defaults"].speedup
            if trial.speedup is None or start is None or len(trial.knobs) > 1:
                continue
            if trial.name == self._trials.baseline:
                continue
            if not trial.knobs:
                instead = {"engine": trial.settings.engine}
                found.append(Effect("engine", self._first.settings.engine, instead, trial.speedup))
                continue
            speedup = trial.speedup.over(start)
            changes = trial.changes or {}
            found.append(Effect(trial.knobs[0], trial.settings.engine, changes, speedup))
        found.sort(key=lambda each: abs(np.log(each.speedup.value)), reverse=True)
        yield from sorted(found, key=lambda each: each.speedup.tie)

    def _knobs(self, start: Tried) -> Sequence[Knob]:
        engine = registry.create(Engine, "engines", start.settings.engine)
        return engine.knobs(self._job.machine, self._job.objective)

    def _combined(self, start: Tried) -> Iterator[Tried]:
        """The changes that helped alone, the best two together, the best three, and so on."""
        own = start.speed
        helped = [
            trial
            for trial in self._trials.by_speed()
            if trial.settings.engine == start.settings.engine
            and len(trial.knobs) == 1
            and trial.speed > HELPS * own
        ]
        knobs: tuple[str, ...] = ()
        changes: dict[str, str] = {}
        for trial in helped:
            if trial.knobs[0] in knobs or set(trial.changes or ()) & set(changes):
                continue
            knobs, changes = (*knobs, *trial.knobs), {**changes, **(trial.changes or {})}
            if len(knobs) > 1:
                yield _changed(start, knobs, changes)


def _far(one: Ratio | None, best: Ratio | None) -> bool:
    """Whether ``one`` is so much slower, beyond the noise of both: it is of a few short rounds."""
    return one is None or (best is not None and one.high < FAR * best.low)


def _singles(start: Tried, knobs: Sequence[Knob]) -> Iterator[Tried]:
    for knob in knobs:
        for changes in knob.values:
            yield _changed(start, (knob.name,), changes)


def _changed(start: Tried, knobs: tuple[str, ...], changes: Mapping[str, str]) -> Tried:
    told = ", ".join(f"{key}={value}" for key, value in changes.items())
    name = f"{start.settings.engine}, {told}"
    return Tried(name, start.settings.changed(changes), knobs, changes)
