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
from onnxpress.verbs.fix import fix
from onnxpress.verbs.verify import Verified, compare

DEFAULT_RECIPE = (
    "inline_functions,simplify_shapes,eliminate_dead,fold_constants,eliminate_identity,"
    "cancel_pairs,simplify_gathers,eliminate_common,merge_concats,unflatten_gemm,sink_transposes,"
    "fuse_reduced_views,simplify_views,fuse_layer_norm,fuse_gelu,fuse_activations,fuse_conv_bn,"
    "fuse_pads,fuse_scale_shift,fuse_gemm,eliminate_dead"
)
"""Standard operators only: what comes out runs in every engine."""

RECIPES = {
    "portable": DEFAULT_RECIPE,
    "onnxruntime": (
        f"{DEFAULT_RECIPE},fuse_attention,fuse_qkv,fuse_skip_layer_norm,fuse_bias_gelu"
    ),
}
"""Target → what is done for it."""

MOST_ROUNDS = 4
"""How often a recipe is repeated where one pass makes work for another."""

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
        size = model.file_bytes if model.path else model.size_bytes
        return cls(sum(ops.values()), ops, size)


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
    fixed: Mapping[str, int] | None = None,
) -> Optimized:
    """Apply ``recipe`` and compare outputs on ``batches`` before and after.

    The free dimensions in ``fixed`` get their sizes first.

    On a mismatch the steps are bisected, the guilty pass is undone and named, and the rest is
    applied again: two runs when all is well. Raises ``EngineError`` where ONNX Runtime cannot
    run the original, since nothing could be proven then.
    """
    steps = (recipe or Recipe.parse(DEFAULT_RECIPE)).passes
    guilty: dict[Pass, str] = {}
    start = fix(model, fixed) if fixed else model
    while True:
        applied = _apply(start, steps, facts, guilty)
        result = applied[-1].model if applied else start
        verified = _verify(model, result, batches)
        if verified.ok:
            break
        wrong = _first_wrong(model, applied, batches)
        guilty[wrong.step] = str(verified.first_mismatch)
    outcomes = tuple(_outcome(step, applied, guilty.get(step)) for step in steps)
    return Optimized(result, GraphSize.of(model), GraphSize.of(result), outcomes, verified)


@dataclass(frozen=True)
class _Applied:
    """One step of one round: what it did and the model after it."""

    step: Pass
    change: Change
    model: Model


def _apply(
    model: Model, steps: Sequence[Pass], facts: Facts | None, guilty: Mapping[Pass, str]
) -> list[_Applied]:
    """The steps in order, round after round until nothing changes; clones share their tensors."""
    applied: list[_Applied] = []
    for _ in range(MOST_ROUNDS):
        changed = False
        for step in steps:
            if step in guilty:
                continue
            model, change = step.apply(model, facts)
            applied.append(_Applied(step, change, model))
            changed = changed or change.changed
        if not changed:
            break
    return applied


def _outcome(step: Pass, applied: Sequence[_Applied], fault: str | None) -> Outcome:
    """What ``step`` did in all rounds; its reasons are those of the last one."""
    changes = [item.change for item in applied if item.step == step]
    rewrites = sum(change.rewrites for change in changes)
    reason = fault or "; ".join(changes[-1].reasons if changes else ())
    return Outcome(str(step), rewrites > 0, rewrites, fault is not None, reason)


def _first_wrong(
    model: Model, applied: Sequence[_Applied], batches: Callable[[], Iterable[Feeds]]
) -> _Applied:
    """The first step after which the outputs differ, by bisection; after the last one they do."""
    low, high = 0, len(applied) - 1
    while low < high:
        middle = (low + high) // 2
        if _verify(model, applied[middle].model, batches).ok:
            low = middle + 1
        else:
            high = middle
    return applied[low]


def _verify(a: Model, b: Model, batches: Callable[[], Iterable[Feeds]]) -> Verified:
    engine = registry.create(Engine, "engines", GUARD_ENGINE)
    require(engine, GUARD_ENGINE)
    # Without the engine's own rewrites: they may differ between the two graphs by more than ours.
    options = {"graph_optimization_level": "ORT_DISABLE_ALL"}
    settings = Settings(GUARD_ENGINE, options=options, custom_ops=a.custom_ops)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        first = a.clone().save(Path(folder) / "before.onnx")
        second = b.clone().save(Path(folder) / "after.onnx")
        with engine.open(first, settings) as one, engine.open(second, settings) as two:
            return compare(one, two, batches(), RTOL)
