"""Compute at press time what no input can change."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._branches import inline_branches
from onnxpress.passes._constants import Constants
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import FREE_INITIALIZERS


@dataclass(frozen=True)
class FoldConstants(Pass):
    """``Op(c₁, …, cₙ)`` → ``c``; ``Gather(Shape(x), i)`` → ``dᵢ``; ``If(c)`` → its live branch.

    Known dimensions are followed through slices and concatenations of ``Shape``. ``Constant``
    nodes become initializers, and an initializer that is also an input stops being an input (the
    signature never counted it). Random and quantising operators stay, and so do graph outputs.

    An output may take ``max_bytes`` more than the constants that it frees. Where all of them
    together would grow the model by more than ``max_total_bytes`` and an eighth of its weights,
    only those fold that take no more than they free.
    """

    max_bytes: int = 1 << 20
    max_total_bytes: int = 1 << 20

    def rewrite(self, model: Model, facts: Facts) -> Change:
        trial = _Trial(model.ir.clone(), self.max_bytes)
        refusals = trial.refusals
        limit = self.max_total_bytes + model.weight_bytes // 8
        if trial.growth > limit:
            refusals = (
                f"constants would grow by {trial.growth} bytes; max_total_bytes and an eighth of "
                f"the weights are {limit}",
                *refusals,
            )
            trial = _Trial(model.ir.clone(), 0)
        if trial.rewrites:
            model.ir = trial.model
        return Change(trial.rewrites, refusals)


class _Trial:
    """``model`` folded until nothing is left: an inlined branch and a constant make more known."""

    def __init__(self, model: ir.Model, max_bytes: int) -> None:
        self.model = model
        self.growth = 0
        self.rewrites = _freeze(model)
        while True:
            constants = Constants(model, max_bytes)
            done = constants.write() + inline_branches(model)
            self.rewrites += done
            self.growth += constants.growth
            self.refusals = tuple(dict.fromkeys(constants.refusals))
            if not done:
                break
        if self.rewrites:
            model.ir_version = max(model.ir_version, FREE_INITIALIZERS)


def _freeze(model: ir.Model) -> int:
    """Take initializers off the inputs: how many."""
    inputs = model.graph.inputs
    defaults = [value for value in inputs if value.is_initializer()]
    for value in defaults:
        inputs.remove(value)
    return len(defaults)
