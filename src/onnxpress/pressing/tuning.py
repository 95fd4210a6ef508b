"""Tunes the finalists of a press: each form with the settings that run it fastest here."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpress.machine import this_machine
from onnxpress.model import load
from onnxpress.pressing.choice import Floor, Trial
from onnxpress.pressing.plan import KEYED_VERSIONS, Plan, Request, version
from onnxpress.pressing.trial import file_hash, timing_feeds
from onnxpress.pressing.workspace import Workspace, key_of
from onnxpress.progress import Progress
from onnxpress.settings import Settings
from onnxpress.verbs.trials import Job
from onnxpress.verbs.tune import tune


def tuned_settings(
    trials: Sequence[Trial],
    prepared: Plan,
    floor: Floor,
    request: Request,
    work: Workspace,
    progress: Progress,
) -> dict[str, Settings]:
    """Form → settings that beat its own beyond the noise; forms without such are left out.

    The budget is shared by the forms. What was found is kept in the workspace.
    """
    found = {}
    for trial in trials:
        path = work.folder / str(trial.file)
        budget_s = request.budget_s / len(trials)
        key = key_of(
            file_hash(path),
            trial.settings,
            prepared.scoring.fingerprint(),
            (prepared.batch, request.objective, budget_s, request.wishes.threads, floor.value),
            this_machine(),
            [version(name) for name in KEYED_VERSIONS],
        )
        known = work.read("tuned", key)
        if known is None:
            job = Job(
                path,
                load(path).file_bytes,
                prepared.bound,
                prepared.scoring,
                timing_feeds(prepared),
                prepared.batch,
                request.objective,
                this_machine().limited(request.wishes.threads),
                floor.value,
            )
            tuned = tune(job, [trial.settings], budget_s=budget_s, progress=progress)
            known = tuned.to_dict()
            work.write("tuned", key, known)
        best = known["best"]
        assert isinstance(best, dict)
        settings = Settings.from_dict(best).with_custom_ops(trial.settings.custom_ops)
        if settings != trial.settings:
            found[trial.name] = settings
    return found
