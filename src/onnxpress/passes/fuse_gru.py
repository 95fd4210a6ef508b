"""Gated recurrent units, unrolled by exporters step by step, as one operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxpress.matching import Any, Match, Number, Pattern
from onnxpress.model import Model
from onnxpress.passes._linear_sums import Affine, AffineReader, Gate, Source
from onnxpress.passes._recurrence import GATES, Step, fuse_steps
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.values import is_op, name_of

OP = "GRU"
BENT = ("Elu", "HardSwish", "LeakyRelu", "Relu", "Softsign", "Tanh")

UPDATE, CANDIDATE, BEFORE, ONE = Gate("Sigmoid"), Gate("Tanh"), Any(), Number(1.0)


def _mixes(z: Pattern, n: Pattern, h: Pattern) -> tuple[Pattern, ...]:
    """Ways to write ``(1 - z) n + z h``."""
    return (n + z * (h - n), n - z * (n - h), (ONE - z) * n + z * h)


FORMS = [(form, False) for form in _mixes(UPDATE, CANDIDATE, BEFORE)]
FORMS += [(form, True) for form in _mixes(UPDATE, BEFORE, CANDIDATE)]
"""With whether σ(z) is the share of what is new, not of what was before."""
GATE = Gate("Sigmoid")
Z, N = Any(computed=True), Any(computed=True)
NEAR = (*_mixes(Z, N, BEFORE), *_mixes(Z, BEFORE, N))


@dataclass(frozen=True)
class FuseGru(Pass):
    """``hₜ = (1 - σ(z)) n + σ(z) hₜ₋₁``, t = 1…T → ``GRU(x, W, R, b)``.

    Where ``n = tanh(xₜ W + b + σ(r) (hₜ₋₁ R + c))``, or ``tanh(xₜ W + (σ(r) hₜ₋₁) R + b)``, z and r
    are ``xₜ W + hₜ₋₁ R + b``, however that is packed, and T is 2 or more (Cho et al., 2014).
    Of float32 only, for which ONNX Runtime has a kernel. Seen on two cores: ONNX Runtime is faster
    with it at every width; OpenVINO is, or as fast, up to 512, and slower at 1024 with batch 1.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        return fuse_steps(model.ir, OP, _step)


class _Refusal(Exception):
    """Why it is no step, and which node is in the way."""

    def __init__(self, why: str, blocking: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = blocking


def _step(node: ir.Node, reader: AffineReader) -> Step | Missed | None:
    if not is_op(node, "Add", "Sub"):
        return None
    near: Missed | None = None
    for form, inverted in FORMS:
        for found in form.matches(node.outputs[0], Match()):
            try:
                return _read(found, node, reader, inverted)
            except _Refusal as refusal:
                blocking = "" if refusal.blocking is None else name_of(refusal.blocking)
                near = near or Missed(OP, _names(found), str(refusal), blocking)
    return near or _nearly(node)


def _names(found: Match) -> tuple[str, ...]:
    return tuple(name_of(node) for node in found.nodes)


def _read(found: Match, node: ir.Node, reader: AffineReader, inverted: bool) -> Step:
    update = _gate(reader.read_gate(found[UPDATE]))
    update = update.negative() if inverted else update
    before = reader.source(found[BEFORE])
    candidate = reader.read_gate(found[CANDIDATE])
    if candidate is None:
        raise _Refusal("its candidate is no product of known size")
    if candidate.others:
        reset, whole, bias = _reset_after(candidate, before, reader)
    else:
        reset, whole, bias = *_reset_before(candidate, before, reader), None
    nodes = (*found.nodes, *update.nodes, *reset.nodes, *whole.nodes)
    attributes: Mapping[str, int] = {} if bias is None else {"linear_before_reset": 1}
    result = node.outputs[0]
    gates = (update, reset, whole)
    return Step(result, result, found[BEFORE], gates, nodes, bias, attributes)


def _gate(gate: Affine | None) -> Affine:
    if gate is None or not gate.weights:
        raise _Refusal("a gate is no product of known size")
    if gate.others:
        maker = gate.others[0].producer()
        what = "an input of the model" if maker is None else maker.op_type
        raise _Refusal(f"a gate adds {what} to its products", maker)
    return gate


def _reset_after(
    candidate: Affine, before: Source, reader: AffineReader
) -> tuple[Affine, Affine, np.ndarray]:
    """``x W + b + σ(r) (h R + c)``: r, the candidate with h's weights, and c."""
    maker = candidate.others[0].producer()
    if len(candidate.others) != 1 or maker is None or not is_op(maker, "Mul"):
        raise _Refusal("its candidate is no product", maker)
    for gated, sigma in _sides(maker):
        inner = reader.read(gated)
        if inner is None or inner.others or set(inner.weights) - {before}:
            continue
        if before in candidate.weights or len(inner.bias) != len(candidate.bias):
            continue
        reset = _gate(reader.read_gate(sigma))
        nodes = (*candidate.nodes, maker, *inner.nodes)
        whole = replace(
            candidate, weights={**candidate.weights, **inner.weights}, others=(), nodes=nodes
        )
        return reset, whole, inner.bias
    raise _Refusal("its candidate reads no reset state", maker)


def _reset_before(candidate: Affine, before: Source, reader: AffineReader) -> tuple[Affine, Affine]:
    """``x W + (σ(r) h) R + b``: r, and the candidate with h's weights."""
    for source, weight in candidate.weights.items():
        maker = source.value.producer() if source.axis < 0 else None
        if maker is None or not is_op(maker, "Mul") or before in candidate.weights:
            continue
        for gated, sigma in _sides(maker):
            if reader.source(gated) != before:
                continue
            reset = _gate(reader.read_gate(sigma))
            weights = {key: value for key, value in candidate.weights.items() if key != source}
            nodes = (*candidate.nodes, maker)
            return reset, replace(candidate, weights={**weights, before: weight}, nodes=nodes)
    raise _Refusal("its candidate reads no reset state")


def _sides(product: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """The other factor and the gate, for each factor that is one."""
    one, two = product.inputs
    if one is None or two is None:
        return []
    pairs = ((two, one), (one, two))
    return [(other, gate) for other, gate in pairs if any(GATE.matches(gate, Match()))]


def _nearly(node: ir.Node) -> Missed | None:
    """What has the form of a step, and other functions in it."""
    for form in NEAR:
        for found in form.matches(node.outputs[0], Match()):
            gate, bent = found[Z].producer(), found[N].producer()
            if gate is None or bent is None or not is_op(gate, *GATES) or not is_op(bent, *BENT):
                continue
            odd = bent if is_op(gate, "Sigmoid") else gate
            if is_op(bent, "Tanh") and odd is bent:
                continue
            what = "its candidate" if odd is bent else "its gate"
            return Missed(OP, _names(found), f"{what} goes through {odd.op_type}", name_of(odd))
    return None
