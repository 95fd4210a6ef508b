"""Rewrites a model's graph and proves that its answers stay."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass, Recipe
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.verbs.verify import Verified, compare

DEFAULT_RECIPE = "fold_constants,eliminate_identity,fuse_conv_bn,eliminate_dead"
RTOL = 1e-4
"""How far a rewrite that is exact in real numbers may move an output, relative to its magnitude."""

GUARD_ENGINE = "onnxruntime"


@dataclass(frozen=True)
class GraphSize:
    """How large a graph is: ``nodes`` counts subgraphs too."""

    nodes: int
    ops: Mapping[str, int]
    size_bytes: int

    @classmethod
    def of(cls, model: Model) -> GraphSize:
        ops = model.op_counts()
        return cls(sum(ops.values()), ops, model.size_bytes)


@dataclass(frozen=True)
class Outcome:
    """What one pass did. ``reverted`` passes broke the outputs; ``reason`` says by how much."""

    name: str
    changed: bool
    rewrites: int
    reverted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Optimized:
    """The optimised model and the proof."""

    model: Model
    before: GraphSize
    after: GraphSize
    passes: tuple[Outcome, ...]
    verified: Verified

    def to_dict(self) -> dict[str, object]:
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "passes": [asdict(outcome) for outcome in self.passes],
            "verified": self.verified.to_dict(),
        }


def optimize(
    model: Model,
    batches: Callable[[], Iterable[Feeds]],
    recipe: Recipe | None = None,
    facts: Facts | None = None,
) -> Optimized:
    """Apply ``recipe`` and compare outputs on ``batches`` before and after.

    On a mismatch the steps are bisected, the guilty pass is undone and named, and the rest is
    applied again: two runs when all is well. Raises ``EngineError`` where ONNX Runtime cannot
    run the original, since nothing could be proven then.
    """
    recipe = recipe or Recipe.parse(DEFAULT_RECIPE)
    steps: Sequence[Pass] = recipe.passes
    guilty: dict[int, str] = {}
    while True:
        states, changes = _apply(model, steps, facts, guilty)
        verified = _verify(model, states[-1], batches)
        if verified.ok:
            break
        index = _first_wrong(model, states, batches)
        guilty[index] = str(verified.first_mismatch)
    outcomes = tuple(
        Outcome(
            str(step),
            change.changed,
            change.rewrites,
            index in guilty,
            guilty.get(index) or "; ".join(change.refusals),
        )
        for index, (step, change) in enumerate(zip(steps, changes, strict=True))
    )
    return Optimized(states[-1], GraphSize.of(model), GraphSize.of(states[-1]), outcomes, verified)


def _apply(
    model: Model, steps: Sequence[Pass], facts: Facts | None, skipped: Mapping[int, str]
) -> tuple[list[Model], list[Change]]:
    """The model after each step, and what each did; clones share their tensors."""
    states, changes = [], []
    for index, step in enumerate(steps):
        if index in skipped:
            change = Change()
        else:
            model, change = step.apply(model, facts)
        states.append(model)
        changes.append(change)
    return states or [model], changes


def _first_wrong(
    model: Model, states: Sequence[Model], batches: Callable[[], Iterable[Feeds]]
) -> int:
    """The first step after which the outputs differ; the last one is known to."""
    low, high = 0, len(states) - 1
    while low < high:
        middle = (low + high) // 2
        if _verify(model, states[middle], batches).ok:
            low = middle + 1
        else:
            high = middle
    return low


def _verify(a: Model, b: Model, batches: Callable[[], Iterable[Feeds]]) -> Verified:
    engine = registry.create(Engine, "engines", GUARD_ENGINE)
    require(engine, GUARD_ENGINE)
    # Without the engine's own rewrites: they may differ between the two graphs by more than ours.
    settings = Settings(GUARD_ENGINE, options={"graph_optimization_level": "ORT_DISABLE_ALL"})
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        first = a.clone().save(Path(folder) / "before.onnx")
        second = b.clone().save(Path(folder) / "after.onnx")
        with engine.open(first, settings) as one, engine.open(second, settings) as two:
            return compare(one, two, batches(), RTOL)
