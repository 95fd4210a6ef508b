"""Long short-term memory, unrolled by exporters step by step, as one operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.matching import Any, Match, Op
from onnxpress.model import Model
from onnxpress.passes._linear_sums import Affine, AffineReader, Gate
from onnxpress.passes._recurrence import GATES, Step, fuse_steps
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.values import is_op, name_of

OP = "LSTM"
ACTIVATIONS = (
    "Clip",
    "Elu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Relu",
    "Sigmoid",
    "Softsign",
    "Tanh",
)
LEAST_GATES = 2
"""So many of them, and a sum of two products, are nearly a step."""

IN, OUT, FORGET, CELL = Gate("Sigmoid"), Gate("Sigmoid"), Gate("Sigmoid"), Gate("Tanh")
BEFORE = Any()
STATE = FORGET * BEFORE + IN * CELL
RESULT = OUT * Op("Tanh", STATE)


@dataclass(frozen=True)
class FuseLstm(Pass):
    """``cₜ = σ(f) cₜ₋₁ + σ(i) tanh(g); hₜ = σ(o) tanh(cₜ)``, t = 1…T → ``LSTM(x, W, R, b)``.

    Where i, f, g and o are ``xₜ W + hₜ₋₁ R + b``, however that is packed, and T is 2 or more
    (Hochreiter and Schmidhuber, 1997; Gers et al., 2000). Of float32 only, for which ONNX Runtime
    has a kernel. One step alone would gain nothing: on two cores it takes as long either way.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        return fuse_steps(model.ir, OP, _step)


def _step(node: ir.Node, reader: AffineReader) -> Step | Missed | None:
    if not is_op(node, "Mul"):
        return None
    near: Missed | None = None
    for found in RESULT.matches(node.outputs[0], Match()):
        step = _read(found, node, reader)
        if isinstance(step, Step):
            return step
        near = near or step
    return near or _nearly(node)


def _read(found: Match, node: ir.Node, reader: AffineReader) -> Step | Missed:
    gates, nodes = [], list(found.nodes)
    for pattern in (IN, OUT, FORGET, CELL):
        gate = reader.read_gate(found[pattern])
        if gate is None or gate.others or not gate.weights:
            return _missed(found, node, gate)
        gates.append(gate)
        nodes += gate.nodes
    return Step(node.outputs[0], found[STATE], found[BEFORE], tuple(gates), tuple(nodes))


def _missed(found: Match, node: ir.Node, gate: Affine | None) -> Missed:
    names = (name_of(node), *(name_of(one) for one in found.nodes if one is not node))
    if gate is None or not gate.others:
        return Missed(OP, names, "a gate is no product of known size")
    maker = gate.others[0].producer()
    if maker is None:
        return Missed(OP, names, "a gate adds an input of the model")
    why = f"a gate adds {maker.op_type} to its products"
    return Missed(OP, names, why, name_of(maker))


def _nearly(node: ir.Node) -> Missed | None:
    """What has the form of a step, and other functions in it."""
    makers = [value.producer() for value in node.inputs if value is not None]
    for bent, gate in (makers, makers[::-1]) if len(makers) == 2 else ():
        if bent is None or not is_op(bent, *ACTIVATIONS) or bent.inputs[0] is None:
            continue
        total, clip = bent.inputs[0].producer(), None
        if total is not None and is_op(total, "Clip"):
            clip, total = total, total.inputs[0].producer() if total.inputs[0] else None
        products = _products(total)
        sigmas = [
            one for one in (gate, *sum(products, ())) if one is not None and is_op(one, *GATES)
        ]
        if not products or len(sigmas) < LEAST_GATES:
            continue
        names = (name_of(node), name_of(bent), *map(name_of, sigmas))
        if clip is not None:
            return Missed(OP, names, "its state is clipped", name_of(clip))
        if not is_op(bent, "Tanh"):
            return Missed(OP, names, f"its state goes through {bent.op_type}", name_of(bent))
        odd = _odd(gate, products)
        if odd is None:
            return Missed(OP, names, "a gate is an input of the model")
        return Missed(OP, names, f"a gate is {odd.op_type}", name_of(odd))
    return None


Factors = tuple[ir.Node | None, ir.Node | None]
"""What makes the two factors of a product."""


def _odd(gate: ir.Node | None, products: list[Factors]) -> ir.Node | None:
    """The first that makes a gate and is no Sigmoid."""
    for makers in ((gate,), *products):
        known = [one for one in makers if one is not None]
        if not any(is_op(one, "Sigmoid") for one in known):
            return next((one for one in known if not is_op(one, "Tanh")), None)
    # Both products have a Sigmoid: what one of them has beside it is no Tanh.
    known = [one for makers in products for one in makers if one is not None]
    return next((one for one in known if not is_op(one, "Sigmoid")), None)


def _products(total: ir.Node | None) -> list[Factors]:
    """Of a sum of two products, their factors."""
    if total is None or not is_op(total, "Add"):
        return []
    makers = [value.producer() for value in total.inputs if value is not None]
    products = [node for node in makers if node is not None and is_op(node, "Mul")]
    if len(products) != 2:
        return []
    one, two = (
        tuple(None if value is None else value.producer() for value in node.inputs)
        for node in products
    )
    return [(one[0], one[1]), (two[0], two[1])]
