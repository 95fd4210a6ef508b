"""press: a trained model becomes the fastest faithful form for this machine, and the proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnxpress import bundle, report
from onnxpress.bundle import BundledForm, Manifest
from onnxpress.custom_ops import NeededOps
from onnxpress.engine import Engine
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.predictor import foreign_options, plain
from onnxpress.pressing.choice import (
    Trial,
    baseline_dict,
    beats,
    early_floor,
    fastest,
    finalists,
    floor_of,
    judge,
    most_exact,
    reason,
    speedup_of,
    tied_with,
    verdict,
)
from onnxpress.pressing.plan import KEYED_VERSIONS, Plan, Request, plan, version
from onnxpress.pressing.result import Planned, Pressed
from onnxpress.pressing.trial import ORIGIN, Built, Trials, build, run_trials
from onnxpress.pressing.tuning import tuned_settings
from onnxpress.pressing.workspace import Workspace, workspace
from onnxpress.progress import Progress, silent
from onnxpress.registry import create
from onnxpress.source import Origin, open_source
from onnxpress.verbs.score import RANDOM

PORTABLE = ("onnxruntime-float32", "openvino-float32")
"""The forms that end every bundle: they run wherever their engine does."""


def press(
    ref: object, request: Request, output: Path | None = None, progress: Progress = silent
) -> Pressed:
    """Try every form that the installed engines find worth trying, choose and bundle the best.

    ``ref`` is a reference or a live model. With ``output`` a bundle is written there, with its
    report, where a form holds the floor and beats the baseline (or the user keeps the float
    form, or the origin is ONNX itself). Raises ``OnnxpressError`` before anything is written
    where the input does not fit.
    """
    if output is not None:
        bundle.refuse_foreign(output)
        _refuse_foreign_options(request)
    with open_source(ref, request.open_options) as origin, workspace(output) as work:
        prepared = plan(origin, request, work, progress)
        early_floor(request.floor, prepared.bound, len(prepared.scoring))
        built = build(prepared, work, progress)
        trials = run_trials(ref, origin, prepared, built, request, work, progress)
        reference = next(row for row in trials.measured.rows if row.name == ORIGIN)
        assert reference.quality is not None
        floor = floor_of(request.floor, prepared.bound, reference.quality)
        judged = judge(built, trials.measured, floor)
        untuned: list[str] = []
        if request.tune:
            tried = finalists(judged)
            found = tuned_settings(tried, prepared, floor, request, work, progress)
            untuned = [trial.name for trial in tried if trial.name not in found]
            built = [item.tuned(found) for item in built]
            trials = run_trials(ref, origin, prepared, built, request, work, progress)
            judged = judge(built, trials.measured, floor)
        chosen = most_exact(fastest(judged), judged, trials.measured)
        result = Pressed(
            source=_name(ref),
            task=prepared.task,
            verdict=verdict(
                chosen, judged, floor, origin.baseline, noisy=trials.measured.noisy is not None
            ),
            chosen=chosen.name if chosen else None,
            reason=reason(
                chosen,
                judged,
                floor,
                origin.baseline,
                tied_with(chosen, judged, trials.measured),
            ),
            floor=floor,
            objective=request.objective,
            batch=prepared.batch,
            threads=request.wishes.threads or this_machine().threads,
            rounds=request.rounds,
            baseline=baseline_dict(trials.measured, origin.baseline),
            candidates=tuple(judged),
            conversion=_conversion(prepared),
            journal=tuple(entry.to_dict() for entry in prepared.model.journal.entries),
            samples=_samples(prepared),
            environment=trials.measured.environment,
            warnings=_warnings(prepared, trials, untuned),
            quantization=_quantization(chosen, judged, built),
        )
        if output is None:  # the files go with the temporary folder
            return _with_files(result, dict.fromkeys(trial.name for trial in judged))
        return _write(result, output, origin, prepared, work, keep_float=request.keep_float)


def _refuse_foreign_options(request: Request) -> None:
    wishes = request.wishes
    foreign = foreign_options(wishes.settings) if wishes.options or wishes.provider_options else []
    if foreign:
        raise InputError(
            f"a bundle may not hold the option {foreign[0]}",
            "none that names a file or loads a library",
            "give it to 'onnxpress run' and 'onnxpress bench', which take it for the bundle",
        )


def press_plan(ref: object, request: Request, progress: Progress = silent) -> Planned:
    """What ``press`` would try, without measuring or writing anything."""
    with open_source(ref, request.open_options) as origin, workspace(None) as work:
        prepared = plan(origin, request, work, progress)
        early_floor(request.floor, prepared.bound, len(prepared.scoring))
        return Planned(
            source=_name(ref),
            task=prepared.task,
            floor=request.floor,
            samples=_samples(prepared),
            forms=tuple(
                {
                    "name": form.name,
                    "recipe": form.recipe,
                    "scheme": form.scheme,
                    "requested": form.requested,
                    "settings": form.settings.to_dict(),
                }
                for form in prepared.forms
            ),
            unavailable=prepared.unavailable,
        )


def _write(
    result: Pressed,
    output: Path,
    origin: Origin,
    prepared: Plan,
    work: Workspace,
    *,
    keep_float: bool,
) -> Pressed:
    """Write the bundle, where there is one to write, and the report beside its manifest."""
    trials = {trial.name: trial for trial in result.candidates}
    forms = _ordered(result, trials)
    kept = {
        name: f"../{work.folder.name}/{trial.file}" if trial.file else None
        for name, trial in trials.items()
    }
    if result.chosen is None and not keep_float and origin.kind != "onnx":
        folder = output.resolve().parent
        stem = f"{output.resolve().name}-report"
        result = _with_files(result, kept)
        if (output / bundle.MANIFEST).is_file():
            left = f"the bundle that an earlier press wrote stays in {output}"
            result = replace(result, warnings=(*result.warnings, left))
        paths = report.write(
            {"schema_version": 1, "command": "press", **result.to_dict()}, folder, stem
        )
        return replace(result, report=paths[0])
    anywhere = [_on_the_cpu(trial) for trial in forms if trial.settings.provider]
    manifest = Manifest(
        task=result.task,
        signature=prepared.model.signature,
        custom_ops=NeededOps.of(prepared.model.custom_operators, origin.custom_ops),
        processing=prepared.processing,
        forms=tuple(_bundled(trial) for trial in (*forms, *anywhere)),
        objective=result.objective,
        chosen=result.chosen,
        provenance={
            "source": origin.kind,
            "fingerprint": prepared.fingerprint,
            "exporter": result.conversion.get("exporter"),
            "versions": {name: version(name) for name in KEYED_VERSIONS if version(name)},
        },
        measurements={
            "verdict": result.verdict,
            "floor": result.floor.value,
            "baseline": dict(result.baseline),
            # A few rounds leave the upper end of a speed-up open, which JSON has no number for.
            "candidates": [plain(trial.to_dict()) for trial in _with_files(result, {}).candidates],
            "environment": dict(result.environment),
        },
    )
    files = {trial.name: work.folder / str(trial.file) for trial in (*forms, *anywhere)}
    written = bundle.write(output, manifest, files)
    bundled = {form.name: form.file for form in written.forms}
    done = replace(
        _with_files(result, kept | bundled), bundle=output, report=output / "report.html"
    )
    report.write({"schema_version": 1, "command": "press", **done.to_dict()}, output)
    return done


def _with_files(result: Pressed, files: Mapping[str, str | None]) -> Pressed:
    """``result`` with each candidate's file as ``files`` names it, relative to the bundle."""
    return replace(
        result,
        candidates=tuple(replace(trial, file=files.get(trial.name)) for trial in result.candidates),
    )


def _ordered(result: Pressed, trials: Mapping[str, Trial]) -> list[Trial]:
    """The chosen form, the best one of each other engine, then the portable float ones.

    Nothing that fell below the floor, unless there is nothing else to keep.
    """
    found: list[Trial] = []
    if result.chosen is not None:
        found.append(trials[result.chosen])
        for trial in sorted(filter(beats, trials.values()), key=speedup_of, reverse=True):
            if trial.settings.engine not in {other.settings.engine for other in found}:
                found.append(trial)
    portable = [trials[name] for name in PORTABLE if name in trials and trials[name].row]
    found += [trial for trial in portable if trial.ok]
    return list({trial.name: trial for trial in found or portable}.values())


def _on_the_cpu(trial: Trial) -> Trial:
    """``trial`` as it runs where its provider or device is not."""
    settings = replace(trial.settings, provider="", provider_options={})
    return replace(trial, name=f"{trial.name}-cpu", settings=settings)


def _bundled(trial: Trial) -> BundledForm:
    engine = create(Engine, "engines", trial.settings.engine)
    return BundledForm(
        name=trial.name,
        file="",
        sha256="",
        settings=trial.settings,
        requested=trial.requested,
        requires_isa=trial.requires_isa,
        made_with=engine.available().version,
    )


def _conversion(prepared: Plan) -> dict[str, object]:
    conversion = prepared.conversion["conversion"]
    assert isinstance(conversion, dict)
    return conversion


def _samples(prepared: Plan) -> dict[str, object]:
    return {
        "description": prepared.samples.description,
        "calibration": len(prepared.calibration),
        "scoring": len(prepared.scoring),
        "labelled": prepared.samples.has_labels,
        "random": prepared.samples.random,
    }


def _warnings(prepared: Plan, trials: Trials, untuned: Sequence[str]) -> tuple[str, ...]:
    """``untuned`` are the forms for which ``--tune`` found nothing better."""
    warnings = [*prepared.notes, *trials.warnings]
    if untuned:
        warnings.append(
            f"--tune: nothing beats the settings of {', '.join(untuned)} beyond the noise"
        )
    if prepared.samples.random:
        warnings.append(RANDOM)
    if trials.measured.noisy:
        warnings.append(trials.measured.noisy)
    warnings += [row.fallen for row in trials.measured.rows if row.fallen]
    warnings += [
        f"engine {name} was not tried: {why}" for name, why in prepared.unavailable.items()
    ]
    return tuple(warnings)


def _quantization(
    chosen: Trial | None, judged: Sequence[Trial], built: Sequence[Built]
) -> Mapping[str, object] | None:
    """What int8 did, of the form that people want to know it of most."""
    told = {item.form.name: item.insight for item in built if item.insight}
    order = sorted((trial for trial in judged if trial.name in told), key=speedup_of, reverse=True)
    order.sort(key=lambda trial: (trial is not chosen, not trial.ok))
    if not order:
        return None
    return {"form": order[0].name, **(told[order[0].name] or {})}


def _name(ref: object) -> str:
    return (
        str(ref) if isinstance(ref, str | Path) else f"{type(ref).__module__}.{type(ref).__name__}"
    )
