"""The Gaussian error linear unit, written out by exporters, as one operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.matching import Any, Match, Number, OneOf, Op, Pattern, blocked, match
from onnxpress.model import Model
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.values import is_op, name_of, opset

GELU_OPSET = 20
"""The first opset with Gelu."""

X = Any(computed=True)
HALF, ONE, THREE = Number(0.5), Number(1.0), Number(3.0)
ROOT, INVERSE_ROOT = Number(math.sqrt(2)), Number(math.sqrt(0.5))


def _erf() -> Pattern:
    scaled = OneOf(X / ROOT, X * INVERSE_ROOT)
    less = Op("Neg", X)
    negative = OneOf(less / ROOT, less * INVERSE_ROOT, X * Number(-math.sqrt(0.5)))
    bell = OneOf(Op("Erf", scaled) + ONE, ONE - Op("Erf", negative))
    return OneOf((X * bell) * HALF, X * (bell * HALF), (X * HALF) * bell)


def _tanh() -> Pattern:
    cube = OneOf(Op("Pow", X, THREE), (X * X) * X)
    inner = OneOf(
        (X + cube * Number(0.044715)) * Number(math.sqrt(2 / math.pi)),
        (X * Number(math.sqrt(2 / math.pi))) * ((X * X) * Number(0.044715) + ONE),
    )
    bell = Op("Tanh", inner) + ONE
    return OneOf((X * bell) * HALF, X * (bell * HALF), (X * HALF) * bell)


FORMS = {"none": _erf(), "tanh": _tanh()}


@dataclass(frozen=True)
class FuseGelu(Pass):
    """``x · (erf(x / √2) + 1) / 2`` → ``Gelu(x)``; with tanh in place of erf the approximation.

    From opset 20 on, which has the operator (Hendrycks and Gimpel, 2016).
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites, missed = 0, []
        new = opset(model.ir) >= GELU_OPSET
        for graph in model.ir.graphs():
            for node in reversed(list(graph)):
                if node.graph is None or not is_op(node, "Mul"):
                    continue
                found = _found(node.outputs[0])
                if found is None:
                    missed.extend(_blocked(node.outputs[0]))
                    continue
                kind, parts = found
                if not new:
                    why = f"it needs opset {GELU_OPSET}, the model has {opset(model.ir)}"
                    missed.append(Missed("Gelu", tuple(map(name_of, parts.nodes)), why))
                    continue
                replace(
                    node.outputs[0], "Gelu", [parts[X]], {"approximate": kind}, gone=parts.nodes
                )
                rewrites += 1
        return Change(rewrites, missed=tuple(missed))


def _found(value: ir.Value) -> tuple[str, Match] | None:
    for name, form in FORMS.items():
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
