"""A view written as Reshape and Transpose nodes, as few as there can be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size, divide, product
from onnxpress.modules import inherit
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer
from onnxpress.views import Axes, Factor, View


@dataclass(frozen=True)
class Step:
    """A Transpose (``perm``) or a Reshape (``shape``)."""

    perm: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()


class ViewWriter:
    """Writes into one graph; equal shapes are one constant."""

    def __init__(self, graph: ir.Graph, shapes: Shapes, names: Names) -> None:
        self._graph, self._shapes, self._names = graph, shapes, names
        self._constants: dict[tuple[int, ...], ir.Value] = {}

    def best(self, view: View) -> list[Step] | None:
        """The shortest plan; None where its shapes cannot be constants."""
        return min(self._plans(view), key=cost, default=None)

    def write(self, view: View, steps: Sequence[Step], before: ir.Node, stem: str) -> ir.Value:
        """The value that ``steps`` make of the source; new nodes stand before ``before``."""
        data = view.source
        for step in steps:
            if step.perm:
                node = ir.node("Transpose", [data], {"perm": step.perm})
            else:
                node = ir.node("Reshape", [data, self.constant(step.shape)])
            node.outputs[0].name = self._names.fresh(f"{stem}_view")
            node.outputs[0].type = view.source.type
            node.name = node.outputs[0].name
            before.prepend(inherit(node, before))
            self._shapes.learn(node)
            data = node.outputs[0]
        return data

    def reshaped(
        self, value: ir.Value, shape: Sequence[Size], made: Sequence[Size], before: ir.Node
    ) -> ir.Value | None:
        """``value`` of ``shape`` as one of ``made``; None where that is not a constant."""
        target = reshape_target(shape, made)
        if target is None:
            return None
        view = View(value, (), ())
        return self.write(view, [Step(shape=tuple(target))], before, str(value.name))

    def _plans(self, view: View) -> Iterator[list[Step]]:
        """Ways to write ``view``, as far as their shapes can be constants."""
        before, after = _sizes(view.before), _sizes(view.after)
        if view.keeps_order:
            if before == after:
                yield []
            target = reshape_target(before, after)
            if target is not None:
                yield [Step(shape=tuple(target))]
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

    def _through(self, view: View, middle: Axes | None, moved: Axes | None) -> list[Step] | None:
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
                steps.append(Step(perm=step))
            elif want != shape:
                target = reshape_target(shape, want)
                if target is None:
                    return None
                steps.append(Step(shape=tuple(target)))
            shape = want
        return steps

    def constant(self, target: tuple[int, ...]) -> ir.Value:
        """The initializer of these numbers."""
        if target not in self._constants:
            name = self._names.fresh("shape")
            tensor = ir.tensor(np.array(target, np.int64), name=name)
            self._constants[target] = add_initializer(self._graph, name, tensor)
        return self._constants[target]


def cost(steps: Sequence[Step]) -> tuple[int, int]:
    """Nodes, then transpositions among them."""
    return len(steps), sum(bool(step.perm) for step in steps)


def reshape_target(shape: Sequence[Size], made: Sequence[Size]) -> list[int] | None:
    """A constant that makes ``made`` of ``shape``; None where there is none."""
    target: list[int] = []
    for axis, size in enumerate(made):
        if isinstance(size, int) and size != 0:
            target.append(size)
        elif axis < len(shape) and size == shape[axis]:
            target.append(0)
        elif -1 not in target:
            target.append(-1)
        else:
            return None
    if -1 in target:
        others = product(size for size, told in zip(made, target, strict=True) if told != -1)
        if divide(product(shape), others) != made[target.index(-1)]:
            return None
    return target


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
    follows = dict(itertools.pairwise(result))
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
