"""Chains of reshapes and transpositions in as few nodes as do the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size, product
from onnxpress.model import Model
from onnxpress.passes.simplify_shapes import reshape_target
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    add_initializer,
    can_forward,
    forward,
    is_op,
    opset,
)
from onnxpress.views import RESHAPES, Axes, Factor, View, Views

INPUT_SHAPE_OPSET = 5
"""The first opset whose Reshape takes the shape as an input."""


@dataclass(frozen=True)
class SimplifyViews(Pass):
    """``Transpose(Transpose(x, p), q)`` → ``Transpose(x, p∘q)``, and so for every chain.

    A chain of Reshape, Flatten, Squeeze, Unsqueeze and Transpose is what it does to the factors
    of the axes: nothing, one Reshape, one Transpose, or both. It is written anew where that takes
    fewer nodes, or as many and fewer transpositions. Dimensions that move only past axes of size
    1 do not move.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < INPUT_SHAPE_OPSET:
            return Change()
        work = _Work(model.ir)
        rewrites = sum(work.simplify(node) for node in reversed(list(model.ir.graph)))
        if rewrites:
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
        return Change(rewrites)


@dataclass(frozen=True)
class _Step:
    """A Transpose (``perm``) or a Reshape (``shape``)."""

    perm: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._shapes, self._names = Shapes(model), Names(model)
        self._views = Views(self._shapes)
        self._constants: dict[tuple[int, ...], ir.Value] = {}

    def simplify(self, node: ir.Node) -> bool:
        """Whether the chain that ends with ``node`` is another one now."""
        value = node.outputs[0]
        if not is_op(node, "Transpose", *RESHAPES) or not _ends(value):
            return False
        view = self._views.of(value)
        old = _dying(view)
        if not old:
            return False
        best = min(self._plans(view), key=_cost, default=None)
        if best is None or _cost(best) >= (len(old), _transposes(old)):
            return False
        if not best and not can_forward(value, view.source):
            return False
        self._write(view, best, value)
        return True

    def _write(self, view: View, steps: Sequence[_Step], value: ir.Value) -> None:
        """Before the node that makes ``value``, whose name and place the last step takes."""
        last = value.producer()
        assert last is not None
        data = view.source
        for step in steps:
            if step.perm:
                node = ir.node("Transpose", [data], {"perm": step.perm})
            else:
                node = ir.node("Reshape", [data, self._constant(step.shape)])
            node.outputs[0].name = self._names.fresh(f"{value.name}_view")
            node.outputs[0].type = value.type
            node.name = self._names.fresh(f"{last.name or value.name}_view")
            last.prepend(node)
            self._shapes.learn(node)
            data = node.outputs[0]
        assert forward(value, data)
        self._graph.remove(last, safe=True)
        _drop(view.nodes[:-1])

    def _plans(self, view: View) -> Iterator[list[_Step]]:
        """Ways to write ``view``, as far as their shapes can be constants."""
        before, after = _sizes(view.before), _sizes(view.after)
        source = self._shapes.shape(view.source)
        if source is None:
            return
        if view.keeps_order:
            if before == after:
                yield []
            target = reshape_target(source, after)
            if target is not None:
                yield [_Step(shape=tuple(target))]
            return
        flat = sum(view.before, ())
        # The axes of the result in the order of the source, and those of the source in the
        # order of the result; then the longest runs of factors that stay together.
        for middle, moved in (
            (_ordered(view.after, flat), view.after),
            (view.before, _ordered(view.before, sum(view.after, ()))),
            _runs(view),
        ):
            steps = self._through(view, middle, moved)
            if steps is not None:
                yield steps

    def _through(self, view: View, middle: Axes | None, moved: Axes | None) -> list[_Step] | None:
        """Reshape to ``middle``, transpose to ``moved``, reshape to the result."""
        if middle is None or moved is None:
            return None
        steps, shape = [], _sizes(view.before)
        perm = _permutation(middle, moved)
        if sum(middle, ()) != sum(view.before, ()) or perm is None:
            return None
        for want, step in (
            (_sizes(middle), None),
            (_sizes(moved), perm),
            (_sizes(view.after), None),
        ):
            if step is not None:
                steps.append(_Step(perm=step))
            elif want != shape:
                target = reshape_target(shape, want)
                if target is None:
                    return None
                steps.append(_Step(shape=tuple(target)))
            shape = want
        return steps

    def _constant(self, target: tuple[int, ...]) -> ir.Value:
        if target not in self._constants:
            name = self._names.fresh("shape")
            tensor = ir.tensor(np.array(target, np.int64), name=name)
            self._constants[target] = add_initializer(self._graph, name, tensor)
        return self._constants[target]


def _ends(value: ir.Value) -> bool:
    """Whether something else than a view reads ``value``."""
    return value.is_graph_output() or any(
        not is_op(user, "Transpose", *RESHAPES) or index > 0 for user, index in value.uses()
    )


def _dying(view: View) -> list[ir.Node]:
    """The nodes of the chain that only its end reads."""
    dying: list[ir.Node] = []
    for node in reversed(view.nodes):
        value = node.outputs[0]
        if dying and (value.is_graph_output() or len(value.uses()) > 1):
            break
        dying.append(node)
    return dying


def _drop(nodes: Sequence[ir.Node]) -> None:
    for node in reversed(nodes):
        value = node.outputs[0]
        if node.graph is None or value.uses() or value.is_graph_output():
            return
        node.graph.remove(node, safe=True)


def _cost(steps: Sequence[_Step]) -> tuple[int, int]:
    return len(steps), sum(bool(step.perm) for step in steps)


def _transposes(nodes: Sequence[ir.Node]) -> int:
    return sum(is_op(node, "Transpose") for node in nodes)


def _sizes(axes: Axes) -> tuple[Size, ...]:
    return tuple(product(factor.size for factor in axis) for axis in axes)


def _ordered(axes: Axes, order: Sequence[Factor]) -> Axes | None:
    """``axes`` in the order of their first factors; None where that is not ``order``.

    Axes of size 1 come last.
    """
    found = sorted((axis for axis in axes if axis), key=lambda axis: order.index(axis[0]))
    empty: Axes = tuple(axis for axis in axes if not axis)
    return (*found, *empty) if sum(found, ()) == tuple(order) else None


def _runs(view: View) -> tuple[Axes, Axes]:
    """The longest runs of factors that stay together, in both orders."""
    flat, result = sum(view.before, ()), sum(view.after, ())
    follows = dict(zip(result, result[1:], strict=False))
    runs: list[tuple[Factor, ...]] = []
    for factor in flat:
        if runs and follows.get(runs[-1][-1]) is factor:
            runs[-1] += (factor,)
        else:
            runs.append((factor,))
    return tuple(runs), tuple(sorted(runs, key=lambda run: result.index(run[0])))


def _permutation(middle: Axes, moved: Axes) -> tuple[int, ...] | None:
    left = list(range(len(middle)))
    perm = []
    for axis in moved:
        place = next((i for i in left if middle[i] == axis), None)
        if place is None:
            return None
        left.remove(place)
        perm.append(place)
    return tuple(perm) if not left else None
