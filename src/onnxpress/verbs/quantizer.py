"""What one float model is quantised with: samples in two parts, their ranges, the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.progress import Progress
from onnxpress.recipe import Ranges, Recipe
from onnxpress.samples import Samples
from onnxpress.settings import Settings
from onnxpress.task import Bound
from onnxpress.verbs.calibrate import Gatherer
from onnxpress.verbs.feeds import sample_feeds
from onnxpress.verbs.samples_seen import Watched
from onnxpress.verbs.saved_ranges import SavedRanges, fingerprint
from onnxpress.verbs.schemes import CALIBRATING, Scheme
from onnxpress.verbs.search import Search

ROWS = 4


class Quantizer:
    """Observes the model once, on a part of the samples; ``scoring`` are the others.

    ``search`` builds and compares its quantised models.
    """

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
        if ranges is not None and len(CALIBRATING & set(scheme.parts)) != 1:
            raise InputError(
                f"--ranges with --scheme {scheme.name}",
                f"one scheme that observes samples: {', '.join(sorted(CALIBRATING))}",
            )
        self._scheme, self._progress = scheme, progress
        self.ready, self.excluded = scheme.prepared(model, excluded)
        self.scoring, self.calibrated = samples, 0
        calibrating = samples
        self._saved, self._path = None, ranges
        if scheme.calibrates:
            calibrating, self.scoring = samples.split(bound.calibrating(len(samples)), seed)
            if ranges is not None and ranges.exists():
                self._saved = SavedRanges.load(ranges)
                self._saved.check(self.ready)
                self._scheme = scheme.by(self._saved.need)
            self.calibrated = len(calibrating) if self._saved is None else self._saved.samples
        feeds = sample_feeds(bound, calibrating, self.ready.signature, ROWS)
        self._watched = Watched(feeds, len(calibrating))
        self._gathered = Gatherer(self._watched, settings.threads, self._saved)
        self.search = Search(
            self.ready,
            self._scheme,
            self._gathered,
            settings,
            excluded=self.excluded,
            progress=progress,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._watched.warnings if self._scheme.calibrates and self._saved is None else ()

    def best(self) -> Recipe:
        """As saved ranges tell, or the one with the least damage: see ``Search``."""
        if self._scheme.calibrates:
            self._progress("calibrating", 0, self.calibrated)
        if self._saved is not None:
            return self.search.recipe(helpers=self._saved.helpers)
        return self.search.best()

    def save_ranges(self, recipe: Recipe) -> None:
        """To the file that was asked for, unless they came from it."""
        if self._path is None or self._saved is not None:
            return
        index, step, need = next(
            (index, step, need)
            for index, step in enumerate(recipe.passes)
            for need in step.needs()
            if isinstance(need, Ranges)
        )
        model, _ = self.search.build(Recipe(recipe.passes[:index]))
        found = self._gathered(step, model).ranges[need]
        graph = fingerprint(self.ready)
        SavedRanges(self._path, need, found, self.calibrated, self.search.helpers, graph).save()
