"""The Gaussian error linear unit as exporters write it out."""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxpress.matching import Any, Number, OneOf, Op, Pattern, match
from onnxpress.values import is_op

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
"""``approximate`` → its formula."""


def gelu_nodes(model: ir.Model) -> set[ir.Node]:
    """Every node of a formula that one ``Gelu`` could stand for."""
    return {
        node
        for last in ir.traversal.RecursiveGraphIterator(model.graph)
        if is_op(last, "Mul")
        for form in FORMS.values()
        if (found := match(form, last.outputs[0]))
        for node in found.nodes
    }
