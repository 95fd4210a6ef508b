"""Finds the recipe of a scheme that does the least damage to one float model."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from onnxpress.macs import macs_per_node
from onnxpress.model import Model
from onnxpress.progress import Progress, silent
from onnxpress.recipe import Change, Recipe
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.values import constant_tensor, is_op, name_of
from onnxpress.verbs.calibrate import Gatherer, applied
from onnxpress.verbs.executed import int8_macs_share
from onnxpress.verbs.schemes import (
    CALIBRATORS,
    CORRECTION,
    EMBEDDINGS,
    HELPERS,
    PASSES,
    Scheme,
    excluding,
)
from onnxpress.verbs.sensitivity import Damage, Ranking, ranked

DAMAGE_BATCHES = 8
"""Batches of the samples that calibrated, on which models are compared while one is chosen."""
HELPS = 0.9
"""What helps leaves at most this share of the damage."""
SLACK = 0.01
"""Of the multiply-adds: less is noise of the count."""


class Search:
    """Builds quantised models of ``ready``, which ``scheme`` prepared, and compares them.

    ``gathered`` hands out what was observed of them; ``settings`` are what they run with.
    ``helpers`` are those of ``schemes.HELPERS`` that were found to help.
    """

    def __init__(
        self,
        ready: Model,
        scheme: Scheme,
        gathered: Gatherer,
        settings: Settings,
        *,
        excluded: Sequence[str] = (),
        progress: Progress = silent,
    ) -> None:
        self._ready = ready
        self.helpers: tuple[str, ...] = ()
        self._scheme, self._gathered, self._settings = scheme, gathered, settings
        self._excluded, self._progress = excluded, progress
        self._known: dict[str, float] = {}
        self._begun: tuple[str, tuple[Model, Change]] | None = None
        self._tables: tuple[str, ...] = ()
        self._embeds = False
        if scheme.integers:
            embedded, change = Recipe.parse(EMBEDDINGS).apply(ready)
            self._tables, self._embeds = _tables(embedded), bool(change.rewrites or change.refusals)

    def build(self, recipe: Recipe) -> tuple[Model, Change]:
        """What comes before the first pass that may exclude nodes is kept for the next time."""
        steps = recipe.passes
        end = next((i for i, step in enumerate(steps) if hasattr(step, "exclude")), len(steps))
        text = str(Recipe(steps[:end]))
        if self._begun is None or self._begun[0] != text:
            self._begun = text, applied(Recipe(steps[:end]), self._ready, self._gathered)
        model, first = self._begun[1]
        quantized, change = applied(Recipe(steps[end:]), model, self._gathered)
        return quantized, Change.all((first, change))

    def best(self) -> Recipe:
        """The recipe with the least damage on samples that calibrated: each part only if it helps.

        First what moves ranges and outliers between weights and activations, then the calibrators,
        if none was asked for, then biases. Of those that do about as well the first one wins.
        """
        scheme, plain = self._scheme, self.recipe()
        if "static" not in scheme.parts:
            return plain
        self._gathered(self.recipe(helpers=HELPERS), self._ready)  # all at once
        best = plain
        for helper in PASSES:
            best = self._helped(best, helper, scheme.calibrator)
        chosen = scheme.calibrator
        for calibrator in () if scheme.calibrator is not None else CALIBRATORS[1:]:
            other = self.recipe(calibrator, self.helpers)
            if self._better(best, other):
                best, chosen = other, calibrator
        return self._helped(best, CORRECTION, chosen)

    def recipe(self, calibrator: str | None = None, helpers: Sequence[str] = ()) -> Recipe:
        """With ``helpers``, some of ``schemes.HELPERS``."""
        return self._scheme.recipe(self._excluded, calibrator, helpers, tables=self._embeds)

    def _helped(self, best: Recipe, helper: str, calibrator: str | None) -> Recipe:
        """``best``, or the same with ``helper`` if that is clearly better and runs as much in int8.

        What a pass puts in front of a product may keep the engine from fusing what is before it.
        """
        helpers = (*self.helpers, helper)
        other = self.recipe(calibrator, helpers)
        place = next((i for i, step in enumerate(other.passes) if step.name == helper), None)
        if place is not None:
            before, _ = self.build(Recipe(other.passes[:place]))
            step = other.passes[place]
            if not step.apply(before, self._gathered(step, before))[1].changed:
                return best
        if not self._better(best, other) or self._share_of(other) < self._share_of(best) - SLACK:
            return best
        self.helpers = helpers
        return other

    def _better(self, one: Recipe, other: Recipe) -> bool:
        """Whether ``other`` clearly does less damage than ``one``."""
        return self._damage_of(other) < HELPS * self._damage_of(one)

    def _damage_of(self, recipe: Recipe) -> float:
        """Of what it makes on the engine; infinite where it makes nothing."""
        if str(recipe) not in self._known:
            model, change = self.build(recipe)
            self._known[str(recipe)] = self._damage(model) if change.changed else math.inf
        return self._known[str(recipe)]

    def _share_of(self, recipe: Recipe) -> float:
        """The share of the multiply-adds that run in int8; 0 where the engine does not tell."""
        executed = self._damage.executed(self.build(recipe)[0])
        return int8_macs_share(executed, macs_per_node(self._ready))

    @functools.cached_property
    def _damage(self) -> Damage:
        return Damage(self._ready, self._some, self._settings)

    def _some(self) -> Iterable[Feeds]:
        return itertools.islice(self._gathered.batches(), DAMAGE_BATCHES)

    def ranking(self, recipe: Recipe) -> Ranking:
        """Of all layers and tables that ``recipe`` quantises, each alone."""
        every = (*self._scheme.layers(self._ready), *self._tables)
        quantized = set(every)
        layers = [name for name in every if name not in self._excluded]

        def only(names: Sequence[str]) -> Model:
            return self.build(excluding(recipe, quantized - set(names)))[0]

        return ranked(
            layers,
            only,
            self._damage,
            self._some,
            lambda index: self._progress("measuring layers", index, len(layers)),
        )


def _tables(model: Model) -> tuple[str, ...]:
    """A node that reads each of the tables of embeddings that are integers in ``model``."""
    readers: dict[ir.Value | None, str] = {}
    for node in model.nodes():
        table = constant_tensor(node.inputs[0]) if is_op(node, "Gather") else None
        if table is not None and table.dtype == ir.DataType.INT8:
            readers.setdefault(node.inputs[0], name_of(node))
    return tuple(readers.values())
