"""Tensors of several heads, and what they are made from."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.dims import Size, product
from onnxpress.values import name_of
from onnxpress.views import Factor, View


class Refusal(Exception):
    """Why an attention is not made, and which node is in the way."""

    def __init__(self, why: str, node: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = "" if node is None else name_of(node)


@dataclass(frozen=True)
class Heads:
    """A tensor [batch, heads, length, size] as a view of what it is made from."""

    view: View
    batch: tuple[Factor, ...]
    heads: tuple[Factor, ...]
    length: tuple[Factor, ...]
    size: tuple[Factor, ...]

    @property
    def packed(self) -> View:
        """The same as [batch, length, heads · size]."""
        axes = (self.batch, self.length, self.heads + self.size)
        return View(self.view.source, self.view.before, axes)

    @property
    def sizes(self) -> tuple[Size, Size, Size, Size]:
        batch, heads, length, size = (
            product(factor.size for factor in axis)
            for axis in (self.batch, self.heads, self.length, self.size)
        )
        return batch, heads, length, size


def heads_of(view: View, length: int, size: int) -> Heads:
    """Raises ``Refusal`` where batch and heads cannot be told apart.

    Where both are one axis the heads are what was split from the axis that ``size`` is from, or
    what stands behind ``length``.
    """
    axes = view.after
    if len(axes) not in (3, 4):
        raise Refusal("a side of its product has not three or four dimensions")
    order = sum(view.before, ())
    lead = sum(axes[:-2], ())
    along = axes[length]
    place = min((order.index(factor) for factor in along), default=None)
    if len(axes) == 4:
        return Heads(view, axes[0], axes[1], along, axes[size])
    home = next((axis for axis in view.before if set(axis) & set(axes[size])), ())
    heads = tuple(factor for factor in lead if factor in home)
    if not heads and place is None:
        raise Refusal("batch and heads cannot be told apart", view.source.producer())
    heads = heads or tuple(factor for factor in lead if order.index(factor) > (place or 0))
    batch = tuple(factor for factor in lead if factor not in heads)
    if batch + heads != lead:
        raise Refusal("its heads stand before its rows")
    return Heads(view, batch, heads, along, axes[size])
