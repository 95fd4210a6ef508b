"""What a graph says of the values that its inputs may take, as an example of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.shapes import Shapes
from onnxpress.signature import Feeds, Signature
from onnxpress.source import Origin
from onnxpress.values import constant, is_op
from onnxpress.verbs.feeds import masked, random_feeds

MOVING = (
    *("Cast", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
    *("Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators whose output holds the values of their first input, and no others."""
TESTING = ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where")
"""Operators that ask of a value whether it counts, or are told."""
POSITIVE, UNIT = ("Log", "Sqrt"), ("Acos", "Asin", "Atanh")
EMBEDDED = {0: 2, 1: 4, 8: 3}
"""Ids, segments and positions of EmbedLayerNormalization: the inputs that are their tables."""
ROWS = 64


@dataclass(frozen=True)
class Domains:
    """What inputs may hold: an ``example``, and how random values are made of it.

    ``positive`` inputs are above 0, ``unit`` ones between -1 and 1.
    """

    example: Mapping[str, np.ndarray] | None
    drawn: frozenset[str] = frozenset()
    masks: frozenset[str] = frozenset()
    positive: frozenset[str] = frozenset()
    unit: frozenset[str] = frozenset()

    @classmethod
    def of(cls, origin: Origin) -> Domains:
        """What ``origin`` shows."""
        return cls(origin.example, origin.drawn)

    def feeds(
        self, signature: Signature, batch: int, seed: int, sizes: Mapping[str, int] | None = None
    ) -> Feeds:
        """Seeded feeds of ``batch`` rows; see ``random_feeds``."""
        feeds = random_feeds(signature, batch, seed, self.example, sizes, self.drawn, self.masks)
        for name in self.positive:
            feeds[name] = np.abs(feeds[name]) + feeds[name].dtype.type(0.1)
        for name in self.unit:
            feeds[name] = np.tanh(feeds[name])
        return feeds


def domains(model: Model) -> Domains:
    """Seeded values of those inputs whose users restrict them.

    Indices into a table stay within it. What marks which of those indices count (of their shape,
    and compared or cast to a Boolean) is a mask of padding. What goes to a logarithm or a root is
    positive, to an inverse sine or cosine between -1 and 1.
    """
    shapes, rng = Shapes(model.ir), np.random.default_rng(0)
    inputs = {str(value.name): value for value in model.ir.graph.inputs}
    specs = model.signature.inputs
    floats = {spec.name for spec in specs if spec.dtype.startswith(("float", "bfloat"))}
    whole = tuple(s for s in specs if s.dtype.startswith(("int", "uint", "bool")) and s.shape)
    drawn = random_feeds(Signature(whole, ()), ROWS, 0)
    limits = {name: _limit(inputs[name], shapes) for name in drawn}
    tables = {shapes.shape(inputs[name]) for name, limit in limits.items() if limit is not None}
    example: dict[str, np.ndarray] = {}
    for name, array in drawn.items():
        limit, beside = limits[name], shapes.shape(inputs[name]) in tables
        if limit is not None:
            example[name] = rng.integers(0, limit, array.shape).astype(array.dtype)
        elif beside and array.ndim == 2 and _goes_to(inputs[name], TESTING):
            example[name] = masked(list(array.shape), rng).astype(array.dtype)
    return Domains(
        example,
        masks=frozenset(name for name in example if limits[name] is None),
        positive=frozenset(name for name in floats if _goes_to(inputs[name], POSITIVE)),
        unit=frozenset(name for name in floats if _goes_to(inputs[name], UNIT)),
    )


def _goes_to(value: ir.Value, operators: Collection[str]) -> bool:
    return any(is_op(user, *operators) for user, _ in _readers(value))


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """The nodes that read ``value``, behind whatever only moves it."""
    seen, left = {value}, [value]
    while left:
        for user, place in left.pop().uses():
            yield user, place
            if place == 0 and is_op(user, *MOVING):
                left.extend(each for each in user.outputs if each not in seen)
                seen.update(user.outputs)


def _limit(value: ir.Value, shapes: Shapes) -> int | None:
    """The first integer past those that ``value`` may hold, as an index; None where it is none."""
    limits = []
    for user, place in _readers(value):
        if is_op(user, "Gather", "GatherElements") and place == 1:
            table = shapes.shape(user.inputs[0])
            axis = user.attributes.get_int("axis", 0)
            if table and isinstance(size := table[axis], int):
                limits.append(size)
        elif user.op_type == "EmbedLayerNormalization" and place in EMBEDDED:
            table = shapes.shape(user.inputs[EMBEDDED[place]])
            if table and isinstance(size := table[0], int):
                limits.append(size)
        elif is_op(user, "OneHot") and place == 0:
            depth = constant(user.inputs[1])
            if depth is not None and depth.size == 1:
                limits.append(int(depth.reshape(-1)[0]))
    return min(limits, default=None)
