"""One quantisation scheme, with what it gained and what it cost."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxpress.engine import Executed
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.macs import macs_per_node
from onnxpress.model import Model, load
from onnxpress.progress import Progress
from onnxpress.recipe import Change, Need, Ranges, Recipe
from onnxpress.runner import Artifact, Runner, peak_rss_bytes
from onnxpress.samples import Record, Samples
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.stacking import static_batch
from onnxpress.task import Bound, Quality
from onnxpress.values import name_of
from onnxpress.verbs.calibrate import Gatherer, applied
from onnxpress.verbs.executed import int8_macs_share
from onnxpress.verbs.feeds import sample_feeds
from onnxpress.verbs.measure import Candidate, measure, open_runner
from onnxpress.verbs.measured import Measured
from onnxpress.verbs.patterns import matching
from onnxpress.verbs.samples_seen import Watched, refuse_nan
from onnxpress.verbs.saved_ranges import SavedRanges
from onnxpress.verbs.schemes import (
    CALIBRATORS,
    CORRECTION,
    HELPERS,
    PASSES,
    Scheme,
    excluding,
    nothing_to_quantize,
    refuse_quantized,
)
from onnxpress.verbs.score import score
from onnxpress.verbs.sensitivity import Damage, Ranking, fewest, ranked
from onnxpress.verbs.slower import why_not_faster

CALIBRATION = 128
SCORING_ROWS = 8
DAMAGE_BATCHES = 8
"""Batches of the samples that calibrated, on which models are compared while one is chosen."""
ROWS = 4
FLOAT, INT8 = "float32", "quantized"
RUINED = 0.99
"""Less quality than this is told also where no floor was asked for."""
HELPS = 0.9
"""What helps leaves at most this share of the damage."""


@dataclass(frozen=True)
class Quantized:
    """The quantised model, measured from its saved file beside the float one.

    ``holds`` is None where no floor was asked for. ``kept_float`` names the layers that stayed
    in float and why. ``int8_macs_share`` is the share of the multiply-adds that the engine ran in
    int8, 0 to 1. ``recipe`` made the model, ``sensitivity`` ranks its layers where it was asked
    for or layers had to be kept.
    """

    model: Model
    scheme: str
    settings: Settings
    before_bytes: int
    after_bytes: int
    measured: Measured
    quality: Quality
    floor: float | None
    kept_float: tuple[str, ...]
    calibration_samples: int
    peak_rss_bytes: int
    int8_macs_share: float
    random_samples: bool
    recipe: str
    sensitivity: Ranking | None = None
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool | None:
        return None if self.floor is None else self.quality.low >= self.floor

    @property
    def ruined(self) -> bool:
        """Whether static quantisation silently would have ruined it: no floor was asked for."""
        low = self.quality.value < RUINED
        return low and self.floor is None and "static" in self.scheme.split("+")

    @property
    def not_faster_because(self) -> str:
        """Empty where it is faster beyond the noise."""
        rows = {row.name: row for row in self.measured.rows}
        speedup = rows[INT8].speedup
        if speedup is not None and speedup.low > 1:
            return ""
        integers = {"static", "dynamic"} & set(self.scheme.split("+"))
        return why_not_faster(
            this_machine(),
            rows[FLOAT].latency_ms.typical,
            self.int8_macs_share if integers else None,
            self.after_bytes / max(1, self.before_bytes),
        )

    def to_dict(self) -> dict[str, object]:
        rows = {row.name: row for row in self.measured.rows}
        speedup = rows[INT8].speedup
        return {
            "scheme": self.scheme,
            "recipe": self.recipe,
            "engine": self.settings.engine,
            "settings": self.settings.to_dict(),
            "before": {
                "size_bytes": self.before_bytes,
                "latency_ms": rows[FLOAT].latency_ms.to_dict(),
            },
            "after": {
                "size_bytes": self.after_bytes,
                "latency_ms": rows[INT8].latency_ms.to_dict(),
            },
            "quality": self.quality.to_dict(),
            "floor": self.floor,
            "holds": self.holds,
            "faster": not self.not_faster_because,
            "not_faster_because": self.not_faster_because,
            "speedup": speedup.to_dict() if speedup else None,
            "kept_float": [
                dict(zip(("node", "why"), reason.split(": ", 1), strict=False))
                for reason in self.kept_float
            ],
            "calibration": {
                "samples": self.calibration_samples,
                "peak_rss_bytes": self.peak_rss_bytes,
            },
            "sensitivity": None if self.sensitivity is None else self.sensitivity.to_dict(),
            "executed": {"int8_macs_share": self.int8_macs_share},
            "random_samples": self.random_samples,
            "warnings": list(self.warnings),
        }


def quantize(
    model: Model,
    bound: Bound,
    samples: Samples,
    scheme: Scheme,
    *,
    settings: Settings,
    exclude: Sequence[str] = (),
    ranges: Path | None = None,
    floor: float | None,
    rank: bool = False,
    seed: int,
    progress: Progress,
) -> Quantized:
    """Apply ``scheme`` and compare the saved file with the float model on ``settings``' engine.

    Nodes that ``exclude`` matches stay float. ``ranges`` is a file that the ranges are read from,
    or written to where there is none. Where ``floor`` does not hold, the most sensitive layers
    are kept in float, as few as it takes; ``rank`` tells the ranking in any case.

    Raises ``InputError`` where the model is quantised already or the scheme finds nothing to
    rewrite in it, where a pattern matches nothing, and for samples that do not fit.
    """
    refuse_quantized(model)
    tuned = replace(settings, options={**settings.options, **scheme.options})
    excluded = matching(model, exclude, "--exclude") if exclude else ()
    refuse_nan(samples, sample_feeds(bound, samples, model.signature, ROWS))
    made = _Making(
        model,
        bound,
        samples,
        scheme,
        settings=tuned,
        excluded=excluded,
        ranges=ranges,
        seed=seed,
        progress=progress,
    )
    recipe = made.best()
    quantized, change = made.build(recipe)
    if not change.changed:
        raise nothing_to_quantize(scheme, made.ready, change.reasons)
    ranking = made.ranking(recipe) if rank else None
    peak = peak_rss_bytes()
    warnings = list(made.warnings)
    kept: dict[str, str] = {}
    with _Trial(model, bound, made.scoring, settings, tuned, progress) as trial:
        quality = trial.quality(quantized)
        if floor is not None and quality.low < floor:
            if bound.provable(quality.n) < floor:
                warnings.append(
                    f"{quality.n} samples cannot prove the floor {floor:g}: a perfect model would "
                    f"need {bound.needed(floor) or 'more'} of them"
                )
            else:
                ranking = ranking or made.ranking(recipe)
                tried: dict[tuple[str, ...], tuple[Model, Change, Quality]] = {}

                def holds(names: Sequence[str]) -> bool:
                    candidate, changed = made.build(excluding(recipe, names))
                    found = trial.quality(candidate)
                    tried[tuple(names)] = candidate, changed, found
                    return found.low >= floor

                names = fewest(ranking, holds)
                if names is not None:
                    quantized, change, quality = tried[names]
                    recipe = excluding(recipe, names)
                    kept = _why(names, ranking)
                else:
                    warnings.append("no choice of layers to keep in float holds the floor")
        measured = trial.measured(quantized)
        share = int8_macs_share(trial.executed(), macs_per_node(made.ready))
        sizes = trial.sizes
    if floor is None and quality.value < RUINED:
        warnings.append(
            f"the quality is only {quality.value:.4f}: with --floor {RUINED} the layers that "
            "suffer most stay in float"
        )
    quantized.path = None
    made.save_ranges(recipe)
    told = dict.fromkeys(made.excluded, "it was excluded") | kept
    refused = [text for text in map(str, change.refusals) if text.split(": ")[0] not in told]
    return Quantized(
        model=quantized,
        scheme=scheme.name,
        settings=tuned,
        before_bytes=sizes[FLOAT],
        after_bytes=sizes[INT8],
        measured=measured,
        quality=quality,
        floor=floor,
        kept_float=(*refused, *(f"{name}: {why}" for name, why in told.items())),
        calibration_samples=made.calibrated,
        peak_rss_bytes=peak,
        int8_macs_share=share,
        random_samples=samples.random,
        recipe=str(recipe),
        sensitivity=ranking,
        warnings=tuple(warnings),
    )


def _why(names: Sequence[str], ranking: Ranking) -> dict[str, str]:
    alone = {layer.node: layer.alone for layer in ranking.layers}
    told = {}
    for name in names:
        damage = alone[name]
        share = "not measured" if damage is None else f"{damage:.2g} of the outputs' variance"
        told[name] = f"for the floor; alone in int8 its error is {share}"
    return told


class _Making:
    """Builds quantised models of one float model; observes it once."""

    def __init__(
        self,
        model: Model,
        bound: Bound,
        samples: Samples,
        scheme: Scheme,
        *,
        settings: Settings,
        excluded: Sequence[str],
        ranges: Path | None,
        seed: int,
        progress: Progress,
    ) -> None:
        self._scheme, self._settings, self._progress = scheme, settings, progress
        self.ready = scheme.prepared(model)
        self.scoring, self.calibrated = samples, 0
        calibrating = samples
        self._saved, self._path = None, ranges
        if scheme.calibrates:
            share = max(1, min(CALIBRATION, len(samples) // 5))
            calibrating, self.scoring = samples.split(share, seed)
            if ranges is not None and ranges.exists():
                self._saved = SavedRanges.load(ranges)
                self._saved.check(self.ready)
                self._scheme = scheme.by(self._saved.need)
            self.calibrated = len(calibrating) if self._saved is None else self._saved.samples
        elif ranges is not None:
            raise InputError(
                f"--ranges with --scheme {scheme.name}", "a scheme that observes samples"
            )
        feeds = sample_feeds(bound, calibrating, self.ready.signature, ROWS)
        self._watched = Watched(feeds, len(calibrating))
        self._gathered = Gatherer(self._watched, settings.threads, self._saved)
        there = {name_of(node) for node in self.ready.ir.graph}
        self.excluded = tuple(name for name in excluded if name in there)
        self._known: dict[str, float] = {}
        self._begun: tuple[str, tuple[Model, Change]] | None = None
        self._helpers: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._watched.warnings if self._scheme.calibrates and self._saved is None else ()

    def build(self, recipe: Recipe) -> tuple[Model, Change]:
        """What comes before the first pass that may exclude nodes is kept for the next time."""
        steps = recipe.passes
        end = next((i for i, step in enumerate(steps) if hasattr(step, "exclude")), len(steps))
        text = str(Recipe(steps[:end]))
        if self._begun is None or self._begun[0] != text:
            self._begun = text, applied(Recipe(steps[:end]), self.ready, self._gathered)
        model, first = self._begun[1]
        quantized, change = applied(Recipe(steps[end:]), model, self._gathered)
        return quantized, Change.all((first, change))

    def best(self) -> Recipe:
        """The recipe with the least damage on samples that calibrated: each part only if it helps.

        First what moves ranges and outliers between weights and activations, then the calibrators,
        if none was asked for, then biases. Of those that do about as well the first one wins.
        """
        scheme, given = self._scheme, self._saved
        plain = scheme.recipe(self.excluded)
        if scheme.calibrates:
            self._progress("calibrating", 0, self.calibrated)
        if "static" not in scheme.parts:
            return plain
        if given is not None:
            self._helpers = given.helpers
            return scheme.recipe(self.excluded, helpers=given.helpers)
        self._gathered(scheme.recipe(self.excluded, helpers=HELPERS), self.ready)  # all at once
        best = plain
        for helper in PASSES:
            best = self._helped(best, helper, scheme.calibrator)
        chosen = scheme.calibrator
        for calibrator in () if scheme.calibrator is not None else CALIBRATORS[1:]:
            other = scheme.recipe(self.excluded, calibrator, self._helpers)
            if self._better(best, other):
                best, chosen = other, calibrator
        return self._helped(best, CORRECTION, chosen)

    def _helped(self, best: Recipe, helper: str, calibrator: str | None) -> Recipe:
        """``best``, or the same with ``helper`` if that is clearly better."""
        helpers = (*self._helpers, helper)
        other = self._scheme.recipe(self.excluded, calibrator, helpers)
        place = next((i for i, step in enumerate(other.passes) if step.name == helper), None)
        if place is not None:
            before, _ = self.build(Recipe(other.passes[:place]))
            step = other.passes[place]
            if not step.apply(before, self._gathered(step, before))[1].changed:
                return best
        if not self._better(best, other):
            return best
        self._helpers = helpers
        return other

    def _better(self, one: Recipe, other: Recipe) -> bool:
        """Whether ``other`` clearly does less damage than ``one``."""
        return self._damage_of(other) < HELPS * self._damage_of(one)

    def _damage_of(self, recipe: Recipe) -> float:
        """Of what it makes on the engine; infinite where it makes nothing."""
        if str(recipe) not in self._known:
            model, change = self.build(recipe)
            self._known[str(recipe)] = self.damage(model) if change.changed else math.inf
        return self._known[str(recipe)]

    @functools.cached_property
    def damage(self) -> Damage:
        return Damage(self.ready, self._some, self._settings)

    def _some(self) -> Iterable[Feeds]:
        return itertools.islice(self._watched(), DAMAGE_BATCHES)

    def ranking(self, recipe: Recipe) -> Ranking:
        """Of all layers that ``recipe`` quantises, each alone."""
        quantized = set(self._scheme.layers(self.ready))
        layers = [name for name in self._scheme.layers(self.ready) if name not in self.excluded]

        def only(names: Sequence[str]) -> Model:
            return self.build(excluding(recipe, quantized - set(names)))[0]

        return ranked(
            layers,
            self.ready,
            only,
            self.damage,
            self._some,
            lambda index: self._progress("measuring layers", index, len(layers)),
        )

    def save_ranges(self, recipe: Recipe) -> None:
        """To the file that was asked for, unless they came from it."""
        if self._path is None or self._saved is not None:
            return
        places = [i for i, step in enumerate(recipe.passes) if any(map(_is_ranges, step.needs()))]
        before, step = Recipe(recipe.passes[: places[0]]), recipe.passes[places[0]]
        need = next(need for need in step.needs() if isinstance(need, Ranges))
        model, _ = self.build(before)
        found = self._gathered(step, model).ranges[need]
        SavedRanges(self._path, need, found, self.calibrated, self._helpers).save()


def _is_ranges(need: Need) -> bool:
    return isinstance(need, Ranges)


@dataclass
class _Trial(contextlib.AbstractContextManager["_Trial"]):
    """Scores and times quantised models against the float one, from their saved files."""

    model: Model
    bound: Bound
    samples: Samples
    settings: Settings
    quantized_settings: Settings
    progress: Progress
    sizes: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> _Trial:
        self._stack = contextlib.ExitStack()
        folder = tempfile.TemporaryDirectory(prefix="onnxpress-")
        self._folder = Path(self._stack.enter_context(folder))
        self._targets = {
            FLOAT: Artifact(self.model.clone().save(self._folder / "float.onnx"), self.settings)
        }
        self._runners: dict[str, Runner] = {}
        self._open(FLOAT)
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self._runners.values():
            runner.close()
        self._stack.close()

    def _open(self, name: str) -> None:
        self._runners[name] = open_runner(self._targets[name])
        self.sizes[name] = load(self._targets[name].path).file_bytes

    def _use(self, quantized: Model) -> None:
        """Save and open ``quantized`` in the place of the one before."""
        if INT8 in self._runners:
            self._runners.pop(INT8).close()
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        path = quantized.clone().save(folder / "quantized.onnx")
        self._targets[INT8] = Artifact(path, self.quantized_settings)
        self._open(INT8)

    def quality(self, quantized: Model) -> Quality:
        """Raises ``InputError`` where the engine cannot run it."""
        self._use(quantized)
        qualities, failures = score(
            self._runners,
            FLOAT,
            self.bound,
            self.samples,
            self._folder,
            SCORING_ROWS,
            self.progress,
        )
        self._refuse(failures)
        return qualities[INT8]

    def measured(self, quantized: Model) -> Measured:
        """Times, of the last model that was scored or of another one."""
        self._use(quantized)
        candidates = [
            Candidate(key, target, self.settings.engine, key, self.sizes[key])
            for key, target in self._targets.items()
        ]
        batch = static_batch(self.model.signature) or 1
        found = measure(
            candidates,
            self.bound.encode([_first(self.samples)] * batch),
            baseline=FLOAT,
            batch=batch,
            progress=self.progress,
        )
        self._refuse(found.failures)
        return found

    def executed(self) -> tuple[Executed, ...]:
        return self._runners[INT8].executed()

    def _refuse(self, failures: Mapping[str, str]) -> None:
        for why in failures.values():
            raise InputError(why, f"a model that {self.settings.engine} runs")


def _first(samples: Iterable[Record]) -> Record:
    return next(iter(samples))
