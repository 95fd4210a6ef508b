"""Rewrites a model's graph and proves that its answers stay and that no fusion is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from onnxpress.errors import first_line
from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass, Recipe
from onnxpress.signature import Feeds
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.fix import fix
from onnxpress.verbs.guard import Guard
from onnxpress.verbs.verify import Verified

_CLEAN = (
    "inline_functions,simplify_shapes,eliminate_dead,fold_constants,eliminate_identity,"
    "cancel_pairs,simplify_gathers,eliminate_common,merge_concats,fuse_lstm,fuse_gru,"
    "eliminate_zero_states,unflatten_gemm,lower_einsum,sink_transposes,fuse_reduced_views,"
    "simplify_views"
)
_LINEAR = "fuse_activations,fuse_conv_bn,fuse_pads,fuse_scale_shift,fuse_gemm,eliminate_dead"
_OWN = (
    "fuse_rotary,fuse_attention,fuse_qkv,fuse_embed_layer_norm,fuse_skip_layer_norm,fuse_bias_gelu"
)
RECIPES = {
    "portable": f"{_CLEAN},fuse_layer_norm,fuse_gelu,{_LINEAR}",
    "onnxruntime": (
        f"{_CLEAN},fuse_layer_norm(contrib=True),fuse_gelu(contrib=True),{_LINEAR},{_OWN}"
    ),
}
"""Target → what is done for it: standard operators only, or ONNX Runtime's own as well."""

DEFAULT_RECIPE = RECIPES["portable"]
"""What comes out runs in every engine."""

MOST_ROUNDS = 4
"""How often a recipe is repeated where one pass makes work for another."""


@dataclass(frozen=True)
class GraphSize:
    """How large a graph is: ``nodes`` counts subgraphs too."""

    nodes: int
    ops: Mapping[str, int]
    size_bytes: int

    @classmethod
    def of(cls, model: Model, size_bytes: int | None = None) -> GraphSize:
        """Of ``model`` as it would be saved, unless ``size_bytes`` tell what its file has."""
        ops = model.op_counts()
        return cls(sum(ops.values()), ops, model.size_bytes if size_bytes is None else size_bytes)


@dataclass(frozen=True)
class Outcome:
    """What one pass did. Of a ``reverted`` one ``reason`` says what was wrong with it."""

    name: str
    changed: bool
    rewrites: int
    reverted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Optimized:
    """The optimised model and the proof; ``verified`` is None where none was asked for."""

    model: Model
    before: GraphSize
    after: GraphSize
    passes: tuple[Outcome, ...]
    verified: Verified | None

    def to_dict(self) -> dict[str, object]:
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "passes": [asdict(outcome) for outcome in self.passes],
            "verified": None if self.verified is None else self.verified.to_dict(),
        }


def optimize(
    model: Model,
    batches: Callable[[], Iterable[Feeds]] | None,
    recipe: Recipe | None = None,
    facts: Facts | None = None,
    fixed: Mapping[str, int] | None = None,
) -> Optimized:
    """Apply ``recipe``; compare outputs on ``batches`` and the kernels that ONNX Runtime executes.

    The free dimensions in ``fixed`` get their sizes first. ``facts`` that passes need and that
    are not given are gathered on ``batches``.

    Where an output differs, or ONNX Runtime executes more kernels than for the original, the
    steps are bisected, the guilty pass is undone and named, and the rest is applied again: two
    runs when all is well. A pass that raises an error is undone, too. Without ``batches``
    nothing is compared. Raises ``EngineError`` where ONNX Runtime cannot run the original, since
    nothing could be proven then.
    """
    steps = (recipe or Recipe.parse(DEFAULT_RECIPE)).passes
    start = fix(model, fixed) if fixed else model
    if facts is None and batches is not None:
        facts = gather(Recipe(steps), start, batches)
    undone: dict[Pass, str] = {}
    if batches is None:
        applied, verified = _apply(start, steps, facts, undone), None
    else:
        with Guard(start, batches) as guard:
            applied, verified = _guarded(guard, steps, facts, undone)
    result = applied[-1].model if applied else start
    outcomes = tuple(_outcome(step, applied, undone.get(step)) for step in dict.fromkeys(steps))
    before = GraphSize.of(model, model.file_bytes if model.path else None)
    return Optimized(result, before, GraphSize.of(result), outcomes, verified)


@dataclass(frozen=True)
class _Applied:
    """One step of one round: what it did and the model after it."""

    step: Pass
    change: Change
    model: Model


def _guarded(
    guard: Guard, steps: Sequence[Pass], facts: Facts | None, undone: dict[Pass, str]
) -> tuple[list[_Applied], Verified]:
    """The steps that do no harm; those that do are written to ``undone``, each with its fault."""
    counted = [step for step in steps if not step.may_add_kernels]
    if len(counted) < len(steps):  # what costs a kernel unasked is found without the others
        _guarded(guard, counted, facts, undone)
    while True:
        applied = _apply(guard.model, steps, facts, undone)
        result = applied[-1].model if applied else guard.model
        verified = guard.compare(result)
        if not verified.ok:
            wrong = _first(applied, lambda model: not guard.compare(model).ok)
            undone[wrong.step] = str(guard.compare(wrong.model).first_mismatch)
        elif len(counted) == len(steps) and guard.more_kernels(result):
            wrong = _first(applied, lambda model: bool(guard.more_kernels(model)))
            undone[wrong.step] = guard.more_kernels(wrong.model)
        else:
            return applied, verified


def _apply(
    model: Model, steps: Sequence[Pass], facts: Facts | None, undone: dict[Pass, str]
) -> list[_Applied]:
    """The steps in order, round after round until nothing changes; clones share their tensors.

    A step is not asked again about the very model that it left as it was.
    """
    applied: list[_Applied] = []
    left: dict[Pass, Model] = {}
    for _ in range(MOST_ROUNDS):
        changed = False
        for step in steps:
            if step in undone or left.get(step) is model:
                continue
            try:
                made, change = step.apply(model, facts)
                if change.changed:
                    made.clone()  # what cannot be copied is no graph
                else:
                    left[step] = model
            except Exception as error:  # noqa: BLE001  # anybody's pass: named, and undone
                undone[step] = f"it raised {type(error).__name__}: {first_line(error)}"
                continue
            model = made
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


def _first(applied: Sequence[_Applied], wrong: Callable[[Model], bool]) -> _Applied:
    """A step after which ``wrong`` holds and before which it does not; it does after the last."""
    low, high = 0, len(applied) - 1
    while low < high:
        middle = (low + high) // 2
        if wrong(applied[middle].model):
            high = middle
        else:
            low = middle + 1
    return applied[low]
