"""What keeps scores of attention from counting, as ONNX Runtime's operators take it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Dim, Size, minimum
from onnxpress.modules import inherit
from onnxpress.passes._heads import Refusal
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op, opset
from onnxpress.views import View, Views, reshaped

EXCLUDING = -1e4
"""What is added to a score that must not count; exp() of it is 0 in every float type."""
ABSORBING = -1e9
"""Next to what is added to scores, those themselves leave no trace in float32."""
REDUCE_INPUT_OPSET, UNSQUEEZE_INPUT_OPSET = 18, 13
"""The first opsets whose ReduceMax and Unsqueeze take their axes as an input."""
FINITE = (
    *("MatMul", "Gemm", "Conv", "Softmax", "LayerNormalization", "LayerNorm", "Tanh", "Sigmoid"),
    *("Clip", "Erf", "Sin", "Cos"),
)
"""Operators that give no infinity where they work as they should."""


@dataclass(frozen=True)
class Addend:
    """What is added to scores: ``value``, or ``fill`` wherever ``kept`` (``negated``) is false.

    One of ``value`` and ``kept`` may be None; without ``value``, ``fill`` takes a score's place.
    ``among`` are the dimensions of those scores but for queries and keys; ``value`` is added
    ``factor`` times.
    """

    value: ir.Value | None = None
    kept: ir.Value | None = None
    fill: float = 0.0
    negated: bool = False
    among: tuple[Size, ...] | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class Mask:
    """``keys``: [batch, keys], ones where they count, ``fill`` is added elsewhere; or ``bias``.

    ``rows``: [batch or 1, queries, 1], false where a query attends to nothing and gets zeros.
    """

    keys: ir.Value | None = None
    fill: float | None = None
    bias: ir.Value | None = None
    rows: ir.Value | None = None


def filled(node: ir.Node) -> Addend | None:
    """``Where(kept, x, fill)`` or ``Where(left out, fill, x)`` for an excluding number."""
    if not is_op(node, "Where"):
        return None
    for place in (2, 1):
        fill = _number(node.inputs[place])
        if fill is not None and fill <= EXCLUDING:
            return Addend(kept=node.inputs[0], fill=fill, negated=place == 1)
    return None


def clamped(node: ir.Node) -> tuple[ir.Value, float] | None:
    """What ``Max(x, number)`` clamps, and the number: scores that are not left out exceed it."""
    if not is_op(node, "Max") or len(node.inputs) != 2:
        return None
    for place in (0, 1):
        number, rest = _number(node.inputs[place]), node.inputs[1 - place]
        if rest is not None and number is not None and math.isfinite(number):
            return (rest, number) if number <= ABSORBING else None
    return None


def rest_of(node: ir.Node, addend: Addend) -> ir.Value | None:
    """The x of ``filled``."""
    return node.inputs[2 if addend.negated else 1]


def added(value: ir.Value) -> Addend:
    """What is added: ``Where(kept, 0, fill)`` as such."""
    node = value.producer()
    found = None if node is None else filled(node)
    if node is None or found is None or _number(rest_of(node, found)) != 0:
        return Addend(value)
    return Addend(value, found.kept, found.fill, found.negated)


@dataclass(frozen=True)
class Scores:
    """[batch, heads, queries, keys] and their type; ``queries`` has the third as a dimension.

    Of ``guarded`` ones, rows that attend to nothing get zeros. None is below ``least``.
    """

    sizes: tuple[Size, Size, Size, Size]
    dtype: ir.DataType
    queries: ir.Value
    guarded: bool
    least: float | None = None


class Masks:
    """Writes the masks of one model; those of equal parts are the same values."""

    def __init__(self, model: ir.Model, shapes: Shapes, names: Names, writer: ViewWriter) -> None:
        self._graph, self._opset = model.graph, opset(model)
        self._shapes, self._names, self._writer = shapes, names, writer
        self._views = Views(shapes)
        self._made: dict[object, ir.Value] = {}

    def of(self, addends: Sequence[Addend], scores: Scores, before: ir.Node) -> Mask:
        """All of ``addends`` together, new nodes before ``before``. Raises ``Refusal``."""
        if not addends:
            return Mask()
        addends = [_absorbing(addend, scores, alone=len(addends) == 1) for addend in addends]
        addends = [self._by_heads(addend, scores, before) for addend in addends]
        if len(addends) == 1:
            keys = self._keys(addends[0], scores, before)
            if keys is not None:
                return keys
        full = self._full(addends, scores)
        overflowing = len(addends) > 1 or addends[0].factor != 1
        infinite = overflowing or any(map(self._may_be_infinite, addends))
        if infinite and scores.guarded and full[1] != 1:
            raise Refusal("whether a query attends to nothing may differ by head")
        bias = self._sum(addends, scores, before)
        shape = self._shapes.shape(bias)
        assert shape is not None
        if len(shape) < len(full):
            bias = self._shared(("rank", bias), lambda: self._ranked(bias, full, before))
        rows = None
        if infinite and scores.guarded:
            rows = self._shared(("rows", bias), lambda: self._rows(bias, full, scores, before))
        least = _lowest(scores.dtype) if infinite and scores.guarded else None
        least = least if scores.least is None else scores.least
        if least is not None:
            lowest = self._constant(least, scores.dtype)
            bias = self._shared(("least", bias, lowest), lambda: self._finite(bias, lowest, before))
        if full[2] != scores.sizes[2]:
            bias = self._shared(("wide", bias), lambda: self._expanded(bias, scores, before))
        return Mask(bias=bias, rows=rows)

    def zeroed(self, value: ir.Value, rows: ir.Value, scores: Scores, before: ir.Node) -> ir.Value:
        """``value`` [batch, queries, size] where ``rows`` hold, zeros elsewhere."""
        zero = self._constant(0.0, scores.dtype)
        return self._node("Where", [rows, value, zero], before, f"{value.name}_rows")

    def _by_heads(self, addend: Addend, scores: Scores, before: ir.Node) -> Addend:
        """What is added to [batch · heads, queries, keys] as what is added to four dimensions.

        What is the same for several of them is taken from before it was repeated.
        """
        batch, heads, _, _ = scores.sizes
        if addend.among == (batch, heads):
            return addend
        value = addend.value if addend.kept is None else addend.kept
        shape = self._shapes.shape(value)
        if value is None or shape is None or len(shape) < 3 or shape[0] == 1:
            return addend
        node = value.producer()
        if addend.among != (batch * heads,):
            raise Refusal("what is added to its scores differs by groups of rows or heads", node)
        four = self._shared(
            ("heads", value), lambda: self._split(value, (batch, heads, *shape[1:]), before)
        )
        if addend.kept is None:
            return replace(addend, value=four)
        return replace(addend, value=None, kept=four)  # as ``fill`` is added by now

    def _split(self, value: ir.Value, sizes: Sequence[Size], before: ir.Node) -> ir.Value | None:
        """``value`` reshaped to the four ``sizes``, before it was repeated where it was."""
        view = reshaped(self._views.of(value), sizes)
        steps = None if view is None else self._writer.best(view)
        if view is None or steps is None:
            return None
        node = view.source.producer()
        if not steps and node is not None and is_op(node, "Expand", "Tile"):
            once = self._shapes.shape(node.inputs[0]) or ()
            if len(once) == len(sizes) and all(
                size in (1, want) for size, want in zip(once, sizes, strict=True)
            ):
                return node.inputs[0]
        return self._writer.write(view, steps, before, str(value.name))

    def _keys(self, addend: Addend, scores: Scores, before: ir.Node) -> Mask | None:
        """``kept`` where it is of keys alone: [batch, 1, 1, keys]."""
        kept, shape = addend.kept, self._shapes.shape(addend.kept)
        batch, _, _, keys = scores.sizes
        if kept is None or shape is None or _four(shape) != (batch, 1, 1, keys):
            return None

        def make() -> ir.Value | None:
            view = self._views.of(kept)
            flat = View(view.source, view.before, tuple(axis for axis in view.after if axis))
            steps = self._writer.best(flat) if len(flat.after) == 2 else None
            if steps is None:
                return None
            value = self._writer.write(flat, steps, before, str(kept.name))
            if addend.negated:
                value = self._node("Not", [value], before, f"{kept.name}_kept")
            return self._node(
                "Cast", [value], before, f"{kept.name}_keys", to=int(ir.DataType.INT32)
            )

        whole = self._shared(("keys", kept, addend.negated), make)
        return Mask(keys=whole, fill=max(addend.fill, float(np.finfo(np.float32).min)))

    def _full(self, addends: Sequence[Addend], scores: Scores) -> tuple[Size, ...]:
        """The four sizes of the sum. Raises ``Refusal`` where it does not fit the scores."""
        full: list[Size] = [1, 1, 1, 1]
        for addend in addends:
            shape = self._shapes.shape(addend.value or addend.kept)
            if shape is None:
                raise Refusal("the shape of what is added to its scores is not known")
            node = (addend.value or addend.kept).producer()  # type: ignore[union-attr]  # has a shape
            if len(shape) > 4:
                told = f"what is added to its scores has the shape {list(shape)}"
                raise Refusal(told, node)
            for axis, (have, want) in enumerate(zip(_four(shape), scores.sizes, strict=True)):
                if have != 1 and not _same(have, want):
                    raise Refusal(_unfit(axis, have, want), node)
                full[axis] = want if have != 1 else full[axis]
        if full[3] != scores.sizes[3]:
            raise Refusal("what is added to its scores is the same for all keys")
        return tuple(full)

    def _sum(self, addends: Sequence[Addend], scores: Scores, before: ir.Node) -> ir.Value:
        values = [self._value(addend, scores, before) for addend in addends]
        return functools.reduce(lambda total, value: self._plus(total, value, before), values)

    def _plus(self, a: ir.Value, b: ir.Value, before: ir.Node) -> ir.Value:
        return self._shared(("sum", a, b), lambda: self._node("Add", [a, b], before, "mask"))

    def _ranked(self, bias: ir.Value, full: Sequence[Size], before: ir.Node) -> ir.Value:
        """``bias`` with dimensions of size 1 in front."""
        axes = tuple(range(4 - len(self._shapes.shape(bias) or full)))
        if self._opset < UNSQUEEZE_INPUT_OPSET:
            return self._node("Unsqueeze", [bias], before, f"{bias.name}_wide", axes=axes)
        given = [bias, self._writer.constant(axes)]
        return self._node("Unsqueeze", given, before, f"{bias.name}_wide")

    def _value(self, addend: Addend, scores: Scores, before: ir.Node) -> ir.Value:
        if addend.value is not None and addend.factor != 1:
            factor = self._constant(addend.factor, scores.dtype)
            return self._shared(
                ("times", addend.value, factor),
                lambda: self._node("Mul", [addend.value, factor], before, "mask"),
            )
        if addend.value is not None:
            return addend.value
        zero = self._constant(0.0, scores.dtype)
        fill = self._constant(addend.fill, scores.dtype)
        sides = [fill, zero] if addend.negated else [zero, fill]
        return self._shared(
            ("where", addend.kept, *sides),
            lambda: self._node("Where", [addend.kept, *sides], before, "mask"),
        )

    def _rows(
        self, bias: ir.Value, full: Sequence[Size], scores: Scores, before: ir.Node
    ) -> ir.Value | None:
        if self._opset < REDUCE_INPUT_OPSET:
            most = self._node("ReduceMax", [bias], before, "mask_rows", axes=[3])
        else:
            most = self._node("ReduceMax", [bias, self._writer.constant((3,))], before, "mask_rows")
        nothing = self._constant(-math.inf, scores.dtype)
        some = self._node("Greater", [most, nothing], before, "mask_rows")
        four, three = (*full[:3], 1), (full[0], full[2], 1)
        return self._writer.reshaped(some, four, three, before)

    def _finite(self, bias: ir.Value, lowest: ir.Value, before: ir.Node) -> ir.Value:
        return self._node("Max", [bias, lowest], before, f"{bias.name}_finite")

    def _expanded(self, bias: ir.Value, scores: Scores, before: ir.Node) -> ir.Value:
        """[…, 1, keys] for all queries, as the operator wants it."""
        length = scores.sizes[2]
        if isinstance(length, int):
            return self._node(
                "Expand", [bias, self._writer.constant((1, 1, length, 1))], before, "mask_wide"
            )
        # An input where one tells: another reader of the queries would keep them from merging.
        for known in (*self._graph.inputs, scores.queries):
            shape = list(self._shapes.shape(known) or ())
            if length in shape:
                break
        else:
            raise Refusal("the number of its queries cannot be told")
        sizes = self._node("Shape", [known], before, "mask_shape")
        place = self._writer.constant((shape.index(length),))
        queries = self._node("Gather", [sizes, place], before, "mask_shape", axis=0)
        ones, one = self._writer.constant((1, 1)), self._writer.constant((1,))
        whole = self._node("Concat", [ones, queries, one], before, "mask_shape", axis=0)
        return self._node("Expand", [bias, whole], before, "mask_wide")

    def _may_be_infinite(self, addend: Addend) -> bool:
        """Whether an infinite constant or an input of floats has a part in it."""
        if addend.kept is not None:
            return bool(np.isinf(addend.fill))
        seen: set[ir.Value | None] = {addend.value}
        left = [addend.value]
        while left:
            value = left.pop()
            dtype = self._shapes.dtype(value)
            if value is None or (dtype is not None and not dtype.is_floating_point()):
                continue
            array, node = constant(value), value.producer()
            if array is not None:
                if np.isinf(array).any():
                    return True
            elif node is None or is_op(node, "Log"):
                return True
            elif not is_op(node, *FINITE):
                left.extend(each for each in node.inputs if each not in seen)
                seen.update(node.inputs)
        return False

    def _node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        before: ir.Node,
        stem: str,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes)
        node.outputs[0].name = node.name = self._names.fresh(stem)
        before.prepend(inherit(node, before))
        self._shapes.learn(node)
        dtype = self._shapes.dtype(node.outputs[0])
        node.outputs[0].type = None if dtype is None else ir.TensorType(dtype)
        return node.outputs[0]

    def _constant(self, number: float, dtype: ir.DataType) -> ir.Value:
        def make() -> ir.Value:
            name = self._names.fresh("mask_number")
            tensor = ir.tensor(np.array(number, dtype.numpy()), name=name)
            return add_initializer(self._graph, name, tensor)

        return self._shared((number, dtype), make)

    def _shared(self, key: object, make: Callable[[], ir.Value | None]) -> ir.Value:
        if key not in self._made:
            value = make()
            if value is None:
                raise Refusal("the shape of what is added to its scores is not constant")
            self._made[key] = value
        return self._made[key]


def _absorbing(addend: Addend, scores: Scores, *, alone: bool) -> Addend:
    """A number that took a score's place as one that may be added to it.

    Where no key counts the first gives equal weights, and so must the second.
    """
    if addend.value is not None:
        return addend
    if addend.fill < _lowest(scores.dtype):  # what a scale behind it made of it
        return replace(addend, fill=-math.inf)
    if addend.fill <= ABSORBING:
        return addend
    if not alone:
        raise Refusal(f"{addend.fill:g} takes a score's place, and something is added to it")
    return replace(addend, fill=_lowest(scores.dtype))


def _same(have: Size, want: Size) -> bool:
    """Whether they are equal in every model that runs, since neither is spread to the other.

    So is ``min(n, want)``, as buffers of masks are cut: it is 1 only where ``want`` is.
    """
    symbol = have.symbol if isinstance(have, Dim) else None
    bounds = () if symbol is None else symbol.bounds
    return have == want or any(
        isinstance(bound, int) and bound > 1 and have == minimum(bound, want) for bound in bounds
    )


def _unfit(axis: int, have: Size, want: Size) -> str:
    what = ("rows", "heads", "queries", "keys")[axis]
    if isinstance(have, int) and isinstance(want, int):
        return f"what is added to its {want} {what} is of {have}"
    return (
        f"whether what is added to its scores has as many {what} as they is not known "
        "as long as dimensions are free"
    )


def _four(shape: Sequence[Size]) -> tuple[Size, ...]:
    return (1,) * (4 - len(shape)) + tuple(shape)


def _number(value: ir.Value | None) -> float | None:
    """The one number of a float constant, however often it is there."""
    array = constant(value)
    if array is None or not array.size or array.dtype.kind != "f":
        return None
    first = array.reshape(-1)[0]
    return float(first) if (array == first).all() else None


def _lowest(dtype: ir.DataType) -> float:
    return float(dtype.min)
