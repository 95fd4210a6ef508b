"""The Gaussian error linear unit, written out by exporters, as one operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.matching import Match, Number, OneOf, Op, Pattern, blocked, match
from onnxpress.model import Model
from onnxpress.passes._gelu import FORMS, X
from onnxpress.passes._rewriting import CONTRIB, replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import is_op, name_of, opset

GELU_OPSET = 20
"""The first opset with Gelu."""
OWN = {"none": "Gelu", "tanh": "FastGelu", "sigmoid": "QuickGelu"}
"""Kind → the operator of ONNX Runtime, at any opset."""
HALVES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
TYPES = {"none": HALVES, "tanh": HALVES, "sigmoid": (ir.DataType.FLOAT,)}
"""Kind → the types that both ONNX Runtime and OpenVINO compute that operator in."""

ALPHA = Number()
QUICK = {"sigmoid": X * OneOf(Op("Sigmoid", X * ALPHA), Op("Sigmoid", X))}


@dataclass(frozen=True)
class FuseGelu(Pass):
    """``x · (erf(x / √2) + 1) / 2`` → ``Gelu(x)``; with tanh in place of erf the approximation.

    From opset 20 on, which has the operator (Hendrycks and Gimpel, 2016). With ``contrib`` ONNX
    Runtime's own operators where the opset has none, and ``x · sigmoid(α·x)`` → ``QuickGelu(x)``.
    """

    rtol = 1e-4
    contrib: bool = False

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir, self.contrib)
        for graph in model.ir.graphs():
            for node in reversed(list(graph)):
                if node.graph is not None and is_op(node, "Mul"):
                    work.fuse(node)
        if work.own:
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(work.rewrites, missed=tuple(work.missed))


class _Work:
    """``own`` counts the rewrites with operators of ONNX Runtime."""

    def __init__(self, model: ir.Model, contrib: bool) -> None:
        self.rewrites, self.own = 0, 0
        self.missed: list[Missed] = []
        self._opset = opset(model)
        self._contrib, self._shapes = contrib, Shapes(model)

    def fuse(self, node: ir.Node) -> None:
        found = _found(node.outputs[0], FORMS | QUICK if self._contrib else FORMS)
        if found is None:
            self.missed.extend(_blocked(node.outputs[0]))
            return
        kind, parts = found
        why = self._why_not(kind, parts, node.outputs[0])
        if why:
            self.missed.append(Missed("Gelu", tuple(map(name_of, parts.nodes)), why))
            return
        old, self.rewrites = node.outputs[0], self.rewrites + 1
        if self._is_standard(kind):
            replace(old, "Gelu", [parts[X]], {"approximate": kind}, gone=parts.nodes)
            return
        alpha = {"alpha": parts.number(ALPHA) if ALPHA in parts.values else 1.0}
        attributes = alpha if kind in QUICK else {}
        new = replace(old, OWN[kind], [parts[X]], attributes, domain=CONTRIB, gone=parts.nodes)
        self.own += 1
        self._shapes.learn(new)

    def _is_standard(self, kind: str) -> bool:
        return kind in FORMS and self._opset >= GELU_OPSET

    def _why_not(self, kind: str, parts: Match, result: ir.Value) -> str:
        if not parts.keeps_shape(self._shapes.shape(parts[X]), self._shapes.shape(result)):
            return "one of its numbers has dimensions that the data may not have"
        if self._is_standard(kind):
            return ""
        if not self._contrib:
            return f"it needs opset {GELU_OPSET}, the model has {self._opset}"
        dtype = self._shapes.dtype(parts[X])
        if not self._shapes.shape(parts[X]):
            return f"{OWN[kind]} does not take a scalar, and its shape is not known to be another"
        if dtype in TYPES[kind]:
            return ""
        told = "an unknown type" if dtype is None else dtype.name.lower()
        return f"{OWN[kind]} does not compute in {told}"


def _found(value: ir.Value, forms: Mapping[str, Pattern]) -> tuple[str, Match] | None:
    for name, form in forms.items():
        found = match(form, value)
        if found is not None:
            return name, found
    return None


def _blocked(value: ir.Value) -> list[Missed]:
    """The one that others read a part of, if there is one."""
    for form in FORMS.values():
        found = blocked(form, value)
        if found is not None:
            names = tuple(map(name_of, found.match.nodes))
            return [Missed("Gelu", names, found.why, found.reader)]
    return []
