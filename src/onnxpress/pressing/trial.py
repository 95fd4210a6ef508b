"""Builds each form's file, then scores and times it against the origin."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from onnxpress.engine import Form, Session
from onnxpress.errors import EngineError, OnnxpressError, SourceError
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.pressing.plan import KEYED_VERSIONS, Plan, Request, version
from onnxpress.pressing.workspace import Workspace, key_of
from onnxpress.progress import Progress
from onnxpress.recipe import Recipe
from onnxpress.runner import Artifact, OriginRef, Runner, Target, Unrepeatable
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.source import Origin
from onnxpress.task import Quality
from onnxpress.verbs.calibrate import Gatherer, applied
from onnxpress.verbs.feeds import first_feeds, sample_feeds
from onnxpress.verbs.insight import insight
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.schemes import Scheme, unsaturated
from onnxpress.verbs.score import score
from onnxpress.verbs.search import Search

ORIGIN = "origin"
CALIBRATION_ROWS = 4
SCORING_ROWS = 16


@dataclass(frozen=True)
class Built:
    """A form with its file, or the reason why there is none.

    ``insight`` is that of ``verbs.insight``, where activations are quantised.
    """

    form: Form
    path: Path | None
    reason: str = ""
    insight: Mapping[str, object] | None = None

    def tuned(self, settings: Mapping[str, Settings]) -> Built:
        """With other settings, where there are some under the form's name."""
        known = settings.get(self.form.name, self.form.settings)
        return replace(self, form=replace(self.form, settings=known))


@dataclass(frozen=True)
class Trials:
    """All that was found out: rows with qualities (the origin's too), and failures by form."""

    measured: Measured
    warnings: tuple[str, ...] = ()


def build(prepared: Plan, work: Workspace, progress: Progress) -> list[Built]:
    """One file per recipe or scheme, in the workspace; forms with the same one share it."""
    made: dict[str, Built] = {}
    built = []
    signature = prepared.model.signature
    feeds = sample_feeds(prepared.bound, prepared.calibration, signature, CALIBRATION_ROWS)
    gathered = Gatherer(feeds)  # recipes that need the same facts observe once
    for index, form in enumerate(prepared.forms):
        scheme = _scheme(form)
        wanted = form.recipe if scheme is None else repr(scheme)
        if wanted not in made:
            progress(f"building {form.name}", index, len(prepared.forms))
            made[wanted] = _build(form, scheme, prepared, work, gathered)
        built.append(replace(made[wanted], form=form))
    return built


def _scheme(form: Form) -> Scheme | None:
    """What the form's scheme is on this machine."""
    if not form.scheme:
        return None
    scheme = Scheme(form.scheme, form.settings.engine)
    return unsaturated(scheme, this_machine(), asked=False)[0]


def _build(
    form: Form, scheme: Scheme | None, prepared: Plan, work: Workspace, gathered: Gatherer
) -> Built:
    if scheme is None and not form.recipe:
        return Built(form, prepared.float_path)
    parts: list[object] = [prepared.float_key, form.recipe, scheme]
    if Recipe.parse(form.recipe).needs() or (scheme is not None and scheme.calibrates):
        parts.append(prepared.calibration.fingerprint())
    key = key_of(*parts, prepared.processing)
    path = work.path("form", key)
    known = work.read("form", key)
    if known is not None and path.is_file():
        told = known.get("insight")
        return Built(form, path, insight=told if isinstance(told, Mapping) else None)
    model = load(prepared.float_path, prepared.model.custom_ops)
    try:
        if scheme is None:
            recipe = Recipe.parse(form.recipe)
            rewritten, change = applied(recipe, model, gathered)
        else:
            model, _ = scheme.prepared(model)
            settings = form.settings.with_custom_ops(model.custom_ops)
            search = Search(model, scheme, gathered, settings)
            recipe = search.best()
            rewritten, change = search.build(recipe)
    except EngineError as error:
        return Built(form, None, str(error))
    if not change.changed:
        reason = "; ".join(change.reasons) or "nothing in the model to rewrite"
        return Built(form, None, f"{form.scheme or form.recipe}: {reason}")
    told = _insight(recipe, model, rewritten, gathered)
    rewritten.save(path)
    work.write("form", key, {"journal": rewritten.journal.to_json(), "insight": told})
    return Built(form, path, insight=told)


def _insight(
    recipe: Recipe, model: Model, quantized: Model, gathered: Gatherer
) -> Mapping[str, object] | None:
    """Of activations that were calibrated; None where there are none, or they cannot be read."""
    places = [i for i, step in enumerate(recipe.passes) if step.name == "quantize_static"]
    if not places:
        return None
    before, _ = applied(Recipe(recipe.passes[: places[0]]), model, gathered)
    layers = Scheme("static").layers(before)
    try:
        return insight(layers, before, quantized, gathered.seen(before), gathered.batches).to_dict()
    except EngineError:  # an engine that fuses a part may not run it in pieces
        return None


def run_trials(
    ref: object,
    origin: Origin,
    prepared: Plan,
    built: list[Built],
    request: Request,
    work: Workspace,
    progress: Progress,
) -> Trials:
    """Score and time the origin and every built form, or find it done in the workspace."""
    candidates = [item for item in built if item.path is not None]
    key = key_of(
        (prepared.fingerprint, prepared.float_key),
        [(item.form.name, file_hash(item.path), item.form.settings) for item in candidates],
        prepared.scoring.fingerprint(),
        (
            prepared.task,
            prepared.processing,
            prepared.batch,
            request.wishes.threads,
            request.rounds,
        ),
        this_machine(),
        [version(name) for name in KEYED_VERSIONS],
    )
    known = work.read("measured", key)
    if known is not None:
        measured, warnings = known["measured"], known["warnings"]
        assert isinstance(measured, dict)
        assert isinstance(warnings, list)
        return Trials(Measured.from_dict(measured), tuple(warnings))
    trials = _run(ref, origin, prepared, candidates, request, progress)
    if not trials.measured.failures:  # what failed once may have lacked memory
        kept = {"measured": trials.measured.to_dict(), "warnings": list(trials.warnings)}
        work.write("measured", key, dict(kept))
    return trials


def _run(
    ref: object,
    origin: Origin,
    prepared: Plan,
    candidates: list[Built],
    request: Request,
    progress: Progress,
) -> Trials:
    """Score first, then time what could be scored, in fresh processes."""
    baseline, warnings = _baseline(ref, origin, prepared, request, progress)
    timed = [Candidate(ORIGIN, baseline, origin.kind, "float32", 0)]
    for item in candidates:
        assert item.path is not None
        form, size = item.form, load(item.path).file_bytes
        target = Artifact(item.path, form.settings)
        engine, asked = form.settings.engine, form.requested
        at_once = form.settings.requests if request.objective == "throughput" else 1
        timed.append(Candidate(form.name, target, engine, asked, size, at_once))
    qualities, failures = _score(timed, prepared, progress)
    measured = measure(
        [candidate for candidate in timed if candidate.name in qualities],
        timing_feeds(prepared),
        baseline=ORIGIN,
        batch=prepared.batch,
        rounds=request.rounds,
        progress=progress,
    )
    if ORIGIN in measured.failures:
        raise SourceError(f"the original failed to run ({measured.failures[ORIGIN]})")
    return Trials(measured.with_results(qualities, failures), warnings)


def _score(
    candidates: list[Candidate], prepared: Plan, progress: Progress
) -> tuple[dict[str, Quality], dict[str, str]]:
    """The quality of each candidate that opens and runs, and why the others do not."""
    failures: dict[str, str] = {}
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxpress-")))
        for index, candidate in enumerate(candidates):
            progress(f"opening {candidate.name}", index, len(candidates))
            try:
                runner = open_runner(candidate.target)
            except EngineError as error:
                if candidate.name == ORIGIN:
                    raise
                failures[candidate.name] = str(error)
                continue
            stack.callback(runner.close)
            runners[candidate.name] = runner
        qualities, broken = score(
            runners, ORIGIN, prepared.bound, prepared.scoring, folder, SCORING_ROWS, progress
        )
    return qualities, {**failures, **broken}


def _baseline(
    ref: object, origin: Origin, prepared: Plan, request: Request, progress: Progress
) -> tuple[Target | Session, tuple[str, ...]]:
    """The origin by its reference where another process can open it again, else as it is here."""
    threads = request.wishes.threads or this_machine().threads
    if not isinstance(ref, str | Path):
        return origin.session(threads), ()
    target = OriginRef(str(ref), request.open_options, threads, prepared.fingerprint)
    progress("opening the original", 0, 0)
    try:
        open_runner(target).close()
    except Unrepeatable as error:
        why = f"{error.found}: the one that was converted is measured in the main process"
    except OnnxpressError as error:
        why = f"the original is measured in the main process ({error})"
    else:
        return target, ()
    return origin.session(threads), (why,)


def timing_feeds(prepared: Plan) -> Feeds:
    """The first scoring samples, as many as a batch takes; repeated where there are fewer."""
    return first_feeds(prepared.bound, prepared.scoring, prepared.model.signature, prepared.batch)


def file_hash(path: Path | None) -> str:
    """Of the content: SHA-256 in hexadecimal digits."""
    assert path is not None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
