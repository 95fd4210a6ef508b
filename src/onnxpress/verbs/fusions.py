"""Fused operators: those that a graph has, those that it might have, and those that it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.recipe import Facts, Missed, Pass, Recipe
from onnxpress.values import all_values, name_of
from onnxpress.verbs.optimize import MOST_ROUNDS, RECIPES

TARGET = "onnxruntime"
"""The recipe that looks for fusions: it knows the most of them."""

FUSED = frozenset({
    "Attention", "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "BiasSplitGelu",
    "DecoderMaskedMultiHeadAttention", "EmbedLayerNormalization", "FastGelu", "FusedConv",
    "FusedGemm", "FusedMatMul", "GRU", "Gelu", "GemmFastGelu", "GroupNormalization",
    "GroupQueryAttention", "HardSwish", "LSTM", "LayerNormalization", "LongformerAttention",
    "MatMulIntegerToFloat", "Mish", "MultiHeadAttention", "NhwcFusedConv", "PackedAttention",
    "PackedMultiHeadAttention", "QAttention", "QLinearAdd", "QLinearConv", "QLinearMatMul",
    "QuickGelu", "RMSNormalization", "RNN", "RotaryEmbedding", "SimplifiedLayerNormalization",
    "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Swish",
})  # fmt: skip
"""Operators that stand for what was many."""

ORIGIN = "onnxpress.origin"
"""The metadata of a node that holds the name of the original one."""
STAND_IN_BYTES = 1 << 20
"""Weights of more bytes are not read: no fusion depends on their numbers."""
PLAIN = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Fusions:
    """``present``: kind → how many. ``possible``: what optimising would make, kind → how many.

    ``possible`` names a pass where its fusion leaves no operator of its own; optimising for
    ``target`` makes all of them. ``missed`` names nodes of the original model. ``modules`` has
    their modules, where these are known.
    """

    present: Mapping[str, int]
    possible: Mapping[str, int]
    target: str
    missed: tuple[Missed, ...]
    modules: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        reasons = Counter((missed.kind, missed.why) for missed in self.missed)
        return {
            "present": dict(self.present),
            "possible": dict(self.possible),
            "target": self.target,
            "missed": [
                {
                    "kind": missed.kind,
                    "nodes": list(missed.nodes),
                    "why": missed.why,
                    "blocking": missed.blocking,
                    "module": self.modules.get(missed.nodes[0] if missed.nodes else "", ""),
                }
                for missed in self.missed
            ],
            "reasons": [
                {"kind": kind, "why": why, "count": count}
                for (kind, why), count in reasons.most_common()
            ],
        }


def fusions(model: Model) -> Fusions:
    """Try the passes of ``optimize --target onnxruntime`` on a clone of ``model``.

    What they miss is what they still miss when nothing changes any more. Weights of more than
    1 MiB are not read.
    """
    modules: dict[str, str] = {}
    for node in model.nodes():
        modules.setdefault(name_of(node), module_of(node))
    trial = _Trial(model)
    trial.run()
    present, after = present_in(model), Counter(present_in(trial.model))
    after.subtract(present)
    possible = {kind: count for kind, count in after.most_common() if count > 0}
    possible.update(trial.rewrites)
    return Fusions(present, possible, _target(trial, possible), trial.told(), modules)


def _target(trial: _Trial, possible: Mapping[str, int]) -> str:
    """The first target whose recipe makes all that is possible: standard operators, or others."""
    own = {name.rpartition("::")[2] for name in trial.model.op_counts() if "::" in name}
    portable = {step.name for step in Recipe.parse(RECIPES["portable"]).passes}
    others = own | (trial.rewrites.keys() - portable)
    return TARGET if others & possible.keys() else "portable"


def present_in(model: Model) -> dict[str, int]:
    """The fused operators of a graph, its subgraphs included; the most frequent first."""
    found: Counter[str] = Counter()
    for name, count in model.op_counts().items():
        kind = name.rpartition("::")[2]
        if kind in FUSED:
            found[kind] += count
    return dict(found.most_common())


class _Trial:
    """The recipe on a clone whose nodes know the names of the original ones.

    ``rewrites`` counts those of fusions that leave no operator of their own, by their pass.
    """

    def __init__(self, model: Model) -> None:
        self.model = _stand_in(model.clone())
        self.rewrites: Counter[str] = Counter()
        self._missed: dict[Pass, tuple[Missed, ...]] = {}
        for node in self.model.nodes():
            node.metadata_props[ORIGIN] = name_of(node)
        self._origins: dict[str, str] = {}
        self._learn()

    def run(self) -> None:
        steps = [step for step in Recipe.parse(RECIPES[TARGET]).passes if not step.needs()]
        for _ in range(MOST_ROUNDS):
            if not [step for step in steps if self._try(step)]:
                break

    def told(self) -> tuple[Missed, ...]:
        """What is missed in the end, each once."""
        return tuple(dict.fromkeys(one for several in self._missed.values() for one in several))

    def _try(self, step: Pass) -> bool:
        """Whether ``step`` changed anything."""
        before = present_in(self.model)
        change = step.rewrite(self.model, Facts())
        if change.changed:
            self._learn()
        self._missed[step] = tuple(map(self._traced, change.missed))
        fuses = step.name.startswith("fuse_") and change.changed
        if fuses and present_in(self.model) == before:
            self.rewrites[step.name] += change.rewrites
        return change.changed

    def _learn(self) -> None:
        for node in self.model.nodes():
            if ORIGIN in node.metadata_props:
                self._origins.setdefault(name_of(node), node.metadata_props[ORIGIN])

    def _traced(self, missed: Missed) -> Missed:
        """In the names of the original model; a name without an original goes."""
        names = (self._origins[name] for name in missed.nodes if name in self._origins)
        blocking = self._origins.get(missed.blocking, "")
        return Missed(missed.kind, tuple(dict.fromkeys(names)), missed.why, blocking)


def _stand_in(model: Model) -> Model:
    """``model`` with one number, each its own, in place of every large weight."""
    weights = dict.fromkeys(
        value.const_value
        for value in all_values(model.ir.graphs())
        if value.is_initializer() and value.const_value is not None
    )
    large = [
        tensor for tensor in weights if tensor.dtype in PLAIN and tensor.nbytes > STAND_IN_BYTES
    ]
    stand_ins = {
        tensor: ir.Tensor(
            np.broadcast_to(np.array(number, tensor.dtype.numpy()), tensor.shape.numpy()),
            name=tensor.name,
        )
        for number, tensor in enumerate(large, start=2)
    }
    for value in all_values(model.ir.graphs()):
        if value.is_initializer() and value.const_value in stand_ins:
            value.const_value = stand_ins[value.const_value]
    return model
