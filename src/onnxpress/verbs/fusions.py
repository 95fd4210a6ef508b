"""Fused operators: those that a graph has, those that it might have, and those that it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.recipe import Change, Missed, Pass, Recipe
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

    ``possible`` names a pass where its fusion leaves no operator of its own. ``missed`` names
    nodes of the original model. ``modules`` has their modules, where these are known.
    """

    present: Mapping[str, int]
    possible: Mapping[str, int]
    missed: tuple[Missed, ...]
    modules: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        reasons = Counter((missed.kind, missed.why) for missed in self.missed)
        return {
            "present": dict(self.present),
            "possible": dict(self.possible),
            "target": TARGET,
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
    present = present_in(model)
    work = _stand_in(model.clone())
    modules: dict[str, str] = {}
    for node in work.nodes():
        node.metadata_props[ORIGIN] = name_of(node)
        modules.setdefault(name_of(node), module_of(node))
    steps = [step for step in Recipe.parse(RECIPES[TARGET]).passes if not step.needs()]
    rewrites: Counter[str] = Counter()
    missed: dict[Pass, list[Missed]] = {}
    for _ in range(MOST_ROUNDS):
        before = work
        for step in steps:
            work = _try(step, work, rewrites, missed)
        if work is before:
            break
    after = Counter(present_in(work))
    after.subtract(present)
    possible = {kind: count for kind, count in after.most_common() if count > 0}
    possible.update(rewrites)
    told = tuple(dict.fromkeys(one for several in missed.values() for one in several))
    return Fusions(present, possible, told, modules)


def present_in(model: Model) -> dict[str, int]:
    """The fused operators of a graph, its subgraphs included; the most frequent first."""
    found: Counter[str] = Counter()
    for name, count in model.op_counts().items():
        kind = name.rpartition("::")[2]
        if kind in FUSED:
            found[kind] += count
    return dict(found.most_common())


def _try(
    step: Pass, model: Model, rewrites: Counter[str], missed: dict[Pass, list[Missed]]
) -> Model:
    """``step`` on ``model``: note what it missed, and a fusion without an operator of its own."""
    after, change = step.apply(model)
    if change.missed:
        missed[step] = list(_traced(change, (model, after)))
    else:
        missed.pop(step, None)
    if change.changed and step.name.startswith("fuse_"):
        counts = [present_in(one) for one in (model, after)]
        if counts[0] == counts[1]:
            rewrites[step.name] += change.rewrites
    return after


def _traced(change: Change, models: Iterable[Model]) -> Iterable[Missed]:
    """What was missed, in the names of the original model; a name without an original goes."""
    origins: dict[str, str] = {}
    for model in models:
        for node in model.nodes():
            if ORIGIN in node.metadata_props:
                origins.setdefault(name_of(node), node.metadata_props[ORIGIN])
    for missed in change.missed:
        names = tuple(dict.fromkeys(origins[name] for name in missed.nodes if name in origins))
        yield Missed(missed.kind, names, missed.why, origins.get(missed.blocking, ""))


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
