"""What a chain of reshapes and transpositions does, whatever it is written as.

Every axis is a product of factors of the source's axes: of ``[batch, length, 384]`` reshaped to
``[batch, length, 12, 32]`` and transposed, the axes are ``batch``, ``12``, ``length``, ``32``.
Two chains are equal if these are. Axes of size 1 have no factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxpress.dims import Size, divide
from onnxpress.shapes import Shapes
from onnxpress.values import is_op

RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Factor:
    """A part of an axis; two of the same size are not the same."""

    size: Size

    def __repr__(self) -> str:
        return f"<{self.size}>"


Axes = tuple[tuple[Factor, ...], ...]


@dataclass(frozen=True)
class View:
    """``source``, rearranged: ``before`` are its axes and ``after`` those of the result.

    ``nodes`` lead from the source to the result.
    """

    source: ir.Value
    before: Axes
    after: Axes
    nodes: tuple[ir.Node, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether nothing moves and no axis changes."""
        return self.before == self.after

    @property
    def keeps_order(self) -> bool:
        """Whether it is no more than a reshape."""
        return sum(self.before, ()) == sum(self.after, ())


Passing = Callable[[ir.Node], ir.Value | None]


def stopping(node: ir.Node) -> None:
    """No node passes."""


class Views:
    """The views of one model's values."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def of(self, value: ir.Value, passing: Passing = stopping) -> View:
        """``value`` as a view of the farthest value that it is one of.

        ``passing`` gives the input of a node that is no view, whose axes its output has.
        """
        chain: list[ir.Node] = []
        sources: list[ir.Value] = []
        source = value
        while (node := source.producer()) is not None:
            viewing = is_op(node, "Identity", "Transpose", *RESHAPES)
            data = node.inputs[0] if viewing else passing(node)
            if data is None or self._shapes.shape(data) is None:
                break
            chain.append(node)
            sources.append(data)
            source = data
        # A chain that cannot be followed to the end is followed from a later value.
        for count in range(len(chain), -1, -1):
            start = sources[count - 1] if count else value
            view = self._follow(start, chain[:count][::-1])
            if view is not None:
                return view
        raise AssertionError("a value is a view of itself")

    def _follow(self, source: ir.Value, nodes: Sequence[ir.Node]) -> View | None:
        shape = self._shapes.shape(source)
        if shape is None:
            return View(source, (), (), ()) if not nodes else None
        axes: Axes = tuple(() if size == 1 else (Factor(size),) for size in shape)
        view = View(source, axes, axes, tuple(nodes))
        moving = [node for node in nodes if is_op(node, "Transpose", *RESHAPES)]
        for node, following in itertools.zip_longest(moving, moving[1:]):
            if is_op(node, *RESHAPES) and following is not None and is_op(following, *RESHAPES):
                continue  # of reshapes in a row the last one tells
            if is_op(node, "Transpose"):
                perm = node.attributes.get("perm")
                order = range(len(view.after))[::-1] if perm is None else perm.as_ints()
                view = replace(view, after=tuple(view.after[axis] for axis in order))
                continue
            found = reshaped(view, self._shapes.shape(node.outputs[0]))
            if found is None:
                return None
            view = found
        return view


def reshaped(view: View, shape: Sequence[Size] | None) -> View | None:
    """``view`` with the axes of ``shape``; None where factors cannot be told apart."""
    if shape is None:
        return None
    left = list(sum(view.after, ()))
    after: list[tuple[Factor, ...]] = []
    split: dict[Factor, tuple[Factor, ...]] = {}
    for size in shape:
        axis: list[Factor] = []
        wanted: Size | None = size
        while wanted != 1:
            if not left or wanted is None:
                return None
            factor = left.pop(0)
            rest = divide(wanted, factor.size)
            if rest is not None:
                axis.append(factor)
                wanted = rest
                continue
            inner = divide(factor.size, wanted)
            if inner is None:
                return None
            split[factor] = Factor(wanted), Factor(inner)
            axis.append(split[factor][0])
            left.insert(0, split[factor][1])
            wanted = 1
        after.append(tuple(axis))
    if left:
        return None
    return View(view.source, _split(view.before, split), tuple(after), view.nodes)


def _split(axes: Axes, split: dict[Factor, tuple[Factor, ...]]) -> Axes:
    """``axes`` with the parts of factors in their place, and the parts of parts."""
    while split.keys() & set(sum(axes, ())):
        axes = tuple(
            tuple(part for factor in axis for part in split.get(factor, (factor,))) for axis in axes
        )
    return axes
