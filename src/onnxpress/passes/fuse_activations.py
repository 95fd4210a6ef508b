"""Activations that are written out, as one operator."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxpress.matching import Any, Match, Number, OneOf, Op, Pattern, blocking
from onnxpress.model import Model
from onnxpress.passes._bounds import Bounds, bounds_of
from onnxpress.passes._linear import FLOATS
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    add_initializer,
    constant,
    is_op,
    name_of,
    opset,
)

CLIP_INPUTS_OPSET = 11
"""The first opset whose Clip takes its bounds as inputs."""
SINGLE = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""The types that ONNX Runtime has the kernels of these activations for."""

X, SLOPE, OFFSET, FACTOR = Any(computed=True), Number(), Number(), Number()
SIX = Number(6.0)
NOUGHT, ONE = Number(0.0), Number(1.0)


def _hard_sigmoid() -> Pattern:
    whole = Op("Clip", X + Number(3.0), NOUGHT, SIX)
    slope = OneOf(X * SLOPE + OFFSET, X / FACTOR + OFFSET, X + OFFSET)
    return OneOf(whole / SIX, whole * Number(1 / 6), Op("Clip", slope, NOUGHT, ONE))


def _hard_swish() -> Pattern:
    clip = Op("Clip", X + Number(3.0), NOUGHT, SIX)
    sixth = Number(1 / 6)
    return OneOf(
        (X * clip) / SIX, (X * clip) * sixth, (X / SIX) * clip, (X * sixth) * clip,
        X * (clip / SIX), X * (clip * sixth), X * HARD_SIGMOID,
    )  # fmt: skip


def _leaky_relu() -> Pattern:
    part = X * SLOPE
    positive = OneOf(Op("Greater", X, NOUGHT), Op("GreaterOrEqual", X, NOUGHT),
                     Op("Less", NOUGHT, X), Op("LessOrEqual", NOUGHT, X))  # fmt: skip
    negative = OneOf(Op("Less", X, NOUGHT), Op("LessOrEqual", X, NOUGHT),
                     Op("Greater", NOUGHT, X), Op("GreaterOrEqual", NOUGHT, X))  # fmt: skip
    return OneOf(Op("Where", positive, X, part), Op("Where", negative, part, X))


HARD_SIGMOID = Op("HardSigmoid", X)
STEEPER = Op("Max", X, X * SLOPE)
LEAKY_PARTS = OneOf(
    Op("Relu", X) - Op("Relu", Op("Neg", X)) * SLOPE,
    Op("Relu", X) + Op("Relu", Op("Neg", X)) * FACTOR,
)

Attributes = Mapping[str, float]


@dataclass(frozen=True)
class _Form:
    """An operator, the opset that has it, how it is written out and what its attributes are then.

    No attributes: it only looks like it.
    """

    op: str
    opset: int
    pattern: Pattern
    read: Callable[[Match], Attributes | None] = field(default=lambda found: {})


def _sigmoid_numbers(found: Match) -> Attributes:
    if SIX in found.values or OFFSET not in found.values:
        return {"alpha": 1 / 6, "beta": 0.5}
    slope = found.number(SLOPE) if SLOPE in found.values else 1.0
    if FACTOR in found.values:
        slope = 1 / found.number(FACTOR)
    return {"alpha": slope, "beta": found.number(OFFSET)}


def _swish_numbers(found: Match) -> Attributes | None:
    node = found[HARD_SIGMOID].producer() if HARD_SIGMOID in found.values else None
    if node is None:
        return {}
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return {} if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5 else None


def _slope(found: Match) -> Attributes:
    sign = -1 if FACTOR in found.values else 1
    return {"alpha": sign * found.number(FACTOR if FACTOR in found.values else SLOPE)}


def _gentle_slope(found: Match) -> Attributes | None:
    return _slope(found) if 0 <= found.number(SLOPE) <= 1 else None


FORMS = (
    _Form("HardSwish", 14, _hard_swish(), _swish_numbers),
    _Form("HardSigmoid", 6, _hard_sigmoid(), _sigmoid_numbers),
    _Form("LeakyRelu", 6, STEEPER, _gentle_slope),
    _Form("LeakyRelu", 6, OneOf(_leaky_relu(), LEAKY_PARTS), _slope),
    _Form("Mish", 18, X * Op("Tanh", Op("Softplus", X))),
)


@dataclass(frozen=True)
class FuseActivations(Pass):
    """``min(max(x, 0), 6)`` → ``Clip(x, 0, 6)``; ``x · clip(x + 3, 0, 6) / 6`` → ``HardSwish(x)``.

    A chain of Relu, Clip, Min and Max with numbers is one Clip, or a Relu. ``clip(αx + β, 0, 1)`` →
    ``HardSigmoid(x)``; ``max(x, αx)``, α ≤ 1, ``x > 0 ? x : αx`` and ``relu(x) - α·relu(-x)`` →
    ``LeakyRelu(x)``; ``x · tanh(softplus(x))`` → ``Mish(x)``; each where the opset has it.

    Left as they are, since ONNX Runtime 1.31 on a CPU runs them so: ``log(1 + eˣ)`` (its Softplus
    takes 12 times as long), a slope per channel (its PRelu takes 6 times as long) and
    ``x · sigmoid(x)``, which it makes one kernel as it loads; opset 24's Swish stays two.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        version = opset(model.ir)
        shapes, missed, rewrites = Shapes(model.ir), list[Missed](), 0
        if version >= CLIP_INPUTS_OPSET:
            rewrites = _bound(model.ir, shapes)
            for graph in model.ir.graphs():
                for node in reversed(list(graph)):
                    if node.graph is None or not node.outputs:
                        continue
                    found = _fuse(node, version, shapes)
                    if isinstance(found, Missed):
                        missed.append(found)
                    else:
                        rewrites += found
        return Change(rewrites, missed=tuple(missed))


def _fuse(node: ir.Node, version: int, shapes: Shapes) -> bool | Missed:
    """Whether ``node`` ended an activation that is one operator now; or why it is not."""
    value, reason = node.outputs[0], None
    for form in FORMS:
        for found in form.pattern.matches(value, Match()):
            attributes = form.read(found)
            if attributes is None:
                continue
            if not found.keeps_shape(shapes.shape(found[X]), shapes.shape(value)):
                continue
            others = blocking(found, value)
            why = ""
            if others:
                why = "another node reads what lies between"
            elif version < form.opset:
                why = f"it needs opset {form.opset}, the model has {version}"
            elif shapes.dtype(value) not in SINGLE:
                why = f"ONNX Runtime has no kernel of it for {shapes.dtype(value)}"
            if why:
                names = tuple(map(name_of, found.nodes))
                reason = reason or Missed(form.op, names, why, name_of(others[0]) if others else "")
                continue
            replace(value, form.op, [found[X]], attributes, gone=found.nodes)
            return True
    return reason or False


def _bound(model: ir.Model, shapes: Shapes) -> int:
    """Make chains of bounds one: how many."""
    names, rewrites = Names(model), 0
    for graph in model.graphs():
        for node in reversed(list(graph)):
            if node.graph is None:
                continue
            chain = list(_chain(node, shapes))
            bounds = functools.reduce(
                lambda all, one: one.then(all), (b for _, b in chain), Bounds()
            )
            shorter = len(chain) > 1 or (bounds.is_relu and not is_op(node, "Relu"))
            if chain and shorter:
                _write(node, [link for link, _ in chain], bounds, names)
                rewrites += 1
    if rewrites:
        model.ir_version = max(model.ir_version, FREE_INITIALIZERS)
    return rewrites


def _chain(node: ir.Node, shapes: Shapes) -> Iterator[tuple[ir.Node, Bounds]]:
    """``node`` and what it bounds, and so on as far as nothing else reads it."""
    last: ir.Node | None = node
    while last is not None and last.graph is node.graph:
        bounds = bounds_of(last)
        if bounds is None or not _keeps_shape(last, bounds, shapes):
            return
        assert bounds.data is not None
        if shapes.dtype(bounds.data) not in FLOATS:
            return
        yield last, bounds
        alone = len(bounds.data.uses()) == 1 and not bounds.data.is_graph_output()
        last = bounds.data.producer() if alone else None


def _keeps_shape(node: ir.Node, bounds: Bounds, shapes: Shapes) -> bool:
    """Whether what ``node`` bounds has the shape of its result: numbers of Max and Min may not."""
    if all(array.ndim == 0 for array in _numbers([node])):
        return True
    shape = shapes.shape(bounds.data)
    return shape is not None and shape == shapes.shape(node.outputs[0])


def _write(node: ir.Node, gone: list[ir.Node], bounds: Bounds, names: Names) -> None:
    value, graph = node.outputs[0], node.graph
    dtype = next((array.dtype for array in _numbers(gone)), None)  # None: two Relu, which are one
    assert graph is not None
    if bounds.is_relu:
        replace(value, "Relu", [bounds.data], gone=gone)
        return
    limits: list[ir.Value | None] = []
    for number in (bounds.low, bounds.high):
        if math.isinf(number):
            limits.append(None)
            continue
        name = names.fresh(f"{value.name}_bound")
        limits.append(add_initializer(graph, name, ir.tensor(np.array(number, dtype), name=name)))
    replace(value, "Clip", [bounds.data, *limits], gone=gone)


def _numbers(nodes: list[ir.Node]) -> Iterator[np.ndarray]:
    """The constants that ``nodes`` read: all are of the type of the data."""
    for node in nodes:
        for value in node.inputs:
            array = constant(value)
            if array is not None:
                yield array
