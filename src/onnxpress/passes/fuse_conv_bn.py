"""Batch normalisation into the weights of the linear operator before it."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._affine import EPSILON, affine
from onnxpress.passes._linear import Linear, after
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    add_initializer,
    can_forward,
    discard,
    drop_unused,
    forward,
    is_op,
    name_of,
    opset,
)

LINEAR = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FuseConvBn(Pass):
    """``BatchNormalization(Conv(x, W, b))`` → ``Conv(x, W·f, (b - μ)·f + β)``, f = γ / √(σ² + ε).

    The same for ConvTranspose and Gemm (``b`` is then Gemm's β·C). The sums are done in float64.
    Only at inference, with constant parameters, and where nothing else reads the Conv's output.
    Weights that several nodes share are fused where all of these nodes get the same new ones.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        while True:
            pairs, missed = _find(model.ir)
            if not pairs:
                return Change(rewrites, missed=tuple(missed))
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
            names = Names(model.ir)
            fused: dict[_Key, list[ir.Value]] = {}
            for pair in pairs:
                _fuse(pair, fused, names)
            rewrites += len(pairs)


_Key = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class _Pair:
    """A linear node, the BatchNormalization that alone reads it, and their weights as one."""

    linear: ir.Node
    norm: ir.Node
    weight: np.ndarray
    bias: np.ndarray

    @property
    def key(self) -> _Key:
        """Pairs of equal keys have equal weights."""
        numbers = astuple(_Numbers.of(self.linear, self.norm))
        return (self.linear.op_type, *numbers, *self.linear.inputs[1:], *self.norm.inputs[1:])


@dataclass(frozen=True)
class _Numbers:
    """The attributes that the fused weights depend on."""

    group: int
    transposed: int
    beta: float
    epsilon: float

    @classmethod
    def of(cls, linear: ir.Node, norm: ir.Node) -> _Numbers:
        read = linear.attributes
        return cls(
            read.get_int("group", 1),
            read.get_int("transB", 0),
            read.get_float("beta", 1.0),
            norm.attributes.get_float("epsilon", EPSILON),
        )


class _Refusal(Exception):
    """Why a pair is not fused; ``blocking`` is the node in the way, if it is one."""

    def __init__(self, why: str, blocking: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = blocking


def _find(model: ir.Model) -> tuple[list[_Pair], list[Missed]]:
    """The pairs to fuse, and why other normalisations of a linear node are left alone."""
    pairs: list[_Pair] = []
    missed: list[Missed] = []
    version = opset(model)
    for norm in ir.traversal.RecursiveGraphIterator(model.graph):
        data = norm.inputs[0] if is_op(norm, "BatchNormalization") else None
        linear = None if data is None else data.producer()
        if linear is None or not is_op(linear, *LINEAR):
            continue
        try:
            _require_fusible(linear, norm, version)
            pairs.append(_Pair(linear, norm, *_fused_arrays(linear, norm, version)))
        except _Refusal as refusal:
            missed.append(_missed(linear, norm, str(refusal), refusal.blocking))
    counts = Counter(pair.key for pair in pairs)
    whole: list[_Pair] = []
    for pair in pairs:
        weight = pair.linear.inputs[1]
        assert weight is not None
        if counts[pair.key] == len(weight.uses()):
            whole.append(pair)
        else:
            why, other = "other nodes read the same weights", _other_reader(weight, pair.linear)
            missed.append(_missed(pair.linear, pair.norm, why, other))
    return whole, missed


def _other_reader(value: ir.Value, known: ir.Node) -> ir.Node | None:
    return next((node for node, _ in value.uses() if node is not known), None)


def _missed(linear: ir.Node, norm: ir.Node, why: str, blocking: ir.Node | None) -> Missed:
    kind = f"{linear.op_type} with BatchNormalization"
    names = (name_of(norm), name_of(linear))
    return Missed(kind, names, why, "" if blocking is None else name_of(blocking))


def _require_fusible(linear: ir.Node, norm: ir.Node, version: int) -> None:
    output = linear.outputs[0]
    reasons = {
        "it is in another graph": linear.graph is not norm.graph,
        "it is not the only reader": len(output.uses()) > 1 or output.is_graph_output(),
        "it is two outputs of the graph": not can_forward(norm.outputs[0], output),
        f"opset {version} broadcasts in other ways": is_op(linear, "Gemm") and version < 7,
    }
    for reason, holds in reasons.items():
        if holds:
            raise _Refusal(reason, _other_reader(output, norm))


def _fused_arrays(linear: ir.Node, norm: ir.Node, version: int) -> tuple[np.ndarray, np.ndarray]:
    """The weight and the bias of both nodes in one."""
    known = Linear.of(linear)
    if isinstance(known, str):
        raise _Refusal(known)
    change = affine(norm, known.axis, known.rank, known.outputs, version)
    found = change if isinstance(change, str) else after(known, change)
    if isinstance(found, str):
        raise _Refusal(found)
    with np.errstate(all="ignore"):
        weight, bias = (array.astype(known.weight.dtype) for array in found)
    if not all(np.isfinite(array.astype(np.float64)).all() for array in (weight, bias)):
        raise _Refusal(f"the fused weights overflow {weight.dtype}")
    return weight, bias


def _fuse(pair: _Pair, fused: dict[_Key, list[ir.Value]], names: Names) -> None:
    linear, norm, key = pair.linear, pair.norm, pair.key
    graph, weight, old = norm.graph, linear.inputs[1], [*linear.inputs[1:], *norm.inputs[1:]]
    assert graph is not None
    assert weight is not None
    if key not in fused:
        arrays = {f"{weight.name}_fused": pair.weight, f"{weight.name}_fused_bias": pair.bias}
        fused[key] = [
            add_initializer(graph, name := names.fresh(stem), ir.tensor(array, name=name))
            for stem, array in arrays.items()
        ]
    linear.resize_inputs(3)
    for index, value in enumerate(fused[key], start=1):
        linear.replace_input_with(index, value)
    linear.attributes.pop("beta", None)
    forward(norm.outputs[0], linear.outputs[0])
    discard(norm)
    drop_unused(old)
