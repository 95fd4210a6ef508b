"""Scales and shifts of channels into the weights of the linear operator beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._affine import Affine, affine, data_of
from onnxpress.passes._gelu import gelu_nodes
from onnxpress.passes._layouts import order_of
from onnxpress.passes._linear import OPERATORS, Linear, after, before
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import (
    FREE_INITIALIZERS,
    Names,
    add_initializer,
    can_forward,
    constant,
    constant_tensor,
    discard,
    drop_unused,
    forward,
    is_op,
    name_of,
    opset,
)

BROADCAST_OPSET = 7
"""The first opset whose arithmetic broadcasts as NumPy's does."""
NORMALISED = ("BatchNormalization",)
"""What ``fuse_conv_bn`` tells of, behind a linear operator."""


@dataclass(frozen=True)
class FuseScaleShift(Pass):
    """``Conv(x, W, b)·f + s`` → ``Conv(x, W·f, b·f + s)``; ``Conv(x·f + s)`` → ``Conv(x, W·f, b + W·s)``.

    Add, Sub, Mul, Div, Neg and BatchNormalization with one number, or one per channel, and any
    chain of them; the same for ConvTranspose, Gemm and MatMul with constant weights. The sums are
    done in float64. Before a convolution that pads, and before a ConvTranspose or a MatMul, only
    the scale goes: of ``x·f + s`` stays ``x + s/f``. A MatMul keeps one Add behind it. A Transpose
    may stand between what comes before and its reader, as where images are channels-last.

    Only where nothing else reads what lies between and nothing else the weights. What scales a
    normalised value stays with the normalisation, and the half of a written-out Gelu with the Gelu:
    engines fuse either as a whole.
    """  # noqa: E501  # an equation

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < BROADCAST_OPSET:
            return Change()
        work = _Work(model.ir)
        for graph in model.ir.graphs():
            for absorb in (work.behind, work.ahead):
                for node in list(graph):
                    if node.graph is not None and is_op(node, *OPERATORS):
                        absorb(node)
        if work.rewrites:
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
        return Change(work.rewrites, missed=tuple(work.missed))


class _Refusal(Exception):
    """Why a chain stays; ``blocking`` is the node that is in the way."""

    def __init__(self, why: str, blocking: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = "" if blocking is None else name_of(blocking)


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._opset = opset(model)
        self._shapes, self._names = Shapes(model), Names(model)
        self._gelus = gelu_nodes(model)
        self.rewrites = 0
        self.missed: list[Missed] = []

    def behind(self, node: ir.Node) -> None:
        """The chain that reads ``node`` into its weights."""
        first = _scaling(node.outputs[0])
        cast = None if first is not None else _cast_between(node.outputs[0])
        known = constant_tensor(node.inputs[1]) is not None
        if cast is not None and known:
            why = _Refusal("a Cast stands between them", cast[0])
            self._miss(f"{node.op_type} with {cast[1].op_type}", [cast[1], node], why)
        if first is None or (is_op(node, "MatMul") and not known):
            return
        try:
            linear = self._linear(node)
            chain, change = self._chain_behind(linear)
            left = int(change.shifts and not linear.takes_bias)
            if len(chain) > left:
                self._put_behind(linear, chain, change)
                self.rewrites += len(chain) - left
        except _Refusal as refusal:
            if not is_op(first, *NORMALISED) or is_op(node, "MatMul"):
                self._miss(f"{node.op_type} with {first.op_type}", [first, node], refusal)

    def ahead(self, node: ir.Node) -> None:
        """The chain that ``node`` reads into its weights, and into those of all its readers."""
        data = node.inputs[0]
        last = None if data is None else _untransposed(data).producer()
        if last is None or data_of(last) is None or constant_tensor(node.inputs[1]) is None:
            return
        try:
            if data is None or last.graph is not node.graph:
                raise _Refusal("it is in another graph", last)
            self._put_ahead(data, self._readers(data, node))
        except _Refusal as refusal:
            self._miss(f"{node.op_type} with {last.op_type} before it", [node, last], refusal)

    def _miss(self, kind: str, nodes: Sequence[ir.Node], refusal: _Refusal) -> None:
        names = tuple(map(name_of, nodes))
        self.missed.append(Missed(kind, names, str(refusal), refusal.blocking))

    def _linear(self, node: ir.Node) -> Linear:
        shape = self._shapes.shape(node.inputs[0])
        linear = Linear.of(node, None if shape is None else len(shape))
        if isinstance(linear, str):
            raise _Refusal(linear, node)
        return linear

    def _affine(self, node: ir.Node, rank: int | None, axis: int, channels: int) -> Affine:
        if node in self._gelus:
            raise _Refusal("it is a part of a Gelu, which engines fuse as a whole", node)
        change = affine(node, axis, rank, channels, self._opset)
        if isinstance(change, str):
            raise _Refusal(change, node)
        return change

    def _require_same_shape(self, node: ir.Node, data: ir.Value) -> None:
        """That a constant of ``node`` does not make ``data`` grow."""
        if all(array.ndim == 0 for array in map(constant, node.inputs) if array is not None):
            return
        shape = self._shapes.shape(data)
        if shape is None or shape != self._shapes.shape(node.outputs[0]):
            raise _Refusal("what it scales or shifts may be of another shape", node)

    def _chain_behind(self, linear: Linear) -> tuple[list[ir.Node], Affine]:
        """The nodes behind ``linear`` that scale and shift its channels, and what they do."""
        value, chain, change = linear.node.outputs[0], list[ir.Node](), Affine.none()
        while (node := _scaling(value)) is not None:
            try:
                _require_alone(value, node, linear.node)
                step = self._affine(node, linear.rank, linear.axis, linear.outputs)
                if not can_forward(node.outputs[0], linear.node.outputs[0]):
                    raise _Refusal("it is two outputs of the graph", node)
            except _Refusal:
                if chain:
                    break
                raise
            change = change.then(step)
            chain.append(node)
            value = node.outputs[0]
        return chain, change

    def _put_behind(self, linear: Linear, chain: list[ir.Node], change: Affine) -> None:
        node, last = linear.node, chain[-1].outputs[0]
        if change.scales:
            _require_own_weights(linear)
        found = after(linear, change)
        if isinstance(found, str):
            raise _Refusal(found, node)
        weight, bias = found
        _require_normal(linear, weight, inputs=False)
        scaled, shift = _as(weight, linear) if change.scales else None, _as(bias, linear)
        old = list(node.inputs)
        self._write(linear, scaled, shift if linear.takes_bias else None)
        if linear.takes_bias or not change.shifts:
            assert forward(last, node.outputs[0])
        else:
            shift_value = self._constant(node, f"{last.name}_shift", shift)
            self._shapes.learn(replace(last, "Add", [node.outputs[0], shift_value]))
        for inner in reversed(chain):
            discard(inner)
        drop_unused(old)

    def _readers(self, data: ir.Value, node: ir.Node) -> list[Linear]:
        """All that read ``data``: each can take its scale."""
        if data.is_graph_output():
            raise _Refusal("it is an output of the graph", data.producer())
        readers = []
        for user, place in data.uses():
            if place != 0 or not is_op(user, *OPERATORS) or user.graph is not node.graph:
                raise _Refusal("another node reads it", user)
            if user.attributes.get_int("transA", 0) and is_op(user, "Gemm"):
                raise _Refusal("it is transposed there", user)
            readers.append(self._linear(user))
        first = readers[0]
        for linear in readers:
            if (linear.inputs, linear.axis, linear.rank) != (first.inputs, first.axis, first.rank):
                raise _Refusal("its readers take it in different ways", linear.node)
        return readers

    def _chain_ahead(
        self, end: ir.Value, reader: ir.Node, linear: Linear, axis: int
    ) -> tuple[list[ir.Node], Affine]:
        """The nodes that lead to ``end``, from the first, and what they do to its ``axis``."""
        chain, change = list[ir.Node](), Affine.none()
        value = end
        while (node := value.producer()) is not None and (source := data_of(node)) is not None:
            if _is_normalised(source):
                raise _Refusal("it ends a normalisation", source.producer())
            try:
                if chain or not is_op(reader, *OPERATORS):
                    _require_alone(value, reader, node)
                step = self._affine(node, linear.rank, axis, linear.inputs)
                self._require_same_shape(node, source)
            except _Refusal:
                if chain:
                    break
                raise
            change = step.then(change)
            chain.insert(0, node)
            value, reader = source, node
        return chain, change

    def _put_ahead(self, data: ir.Value, readers: list[Linear]) -> None:
        first, end = readers[0], _untransposed(data)
        axis, reader = first.axis, first.node
        if end is not data:
            reader = data.producer()  # type: ignore[assignment]  # the Transpose
            axis = order_of(reader, first.rank or 0)[axis]
        chain, change = self._chain_ahead(end, reader, first, axis)
        source, stays = data_of(chain[0]), None
        assert source is not None
        blocked = next((one for one in readers if one.pads or not one.takes_bias), None)
        if change.shifts and blocked is not None:
            if len(chain) == 1:
                raise _Refusal(_why_no_shift(blocked), blocked.node)
            with np.errstate(all="ignore"):
                stays = _as(change.shift / change.scale, readers[0])
            change = Affine(change.scale, np.zeros(1))
        written = []
        for linear in readers:
            if change.scales:
                _require_own_weights(linear)
            found = before(linear, change)
            if isinstance(found, str):
                raise _Refusal(found, linear.node)
            _require_normal(linear, found[0], inputs=True)
            weight = _as(found[0], linear) if change.scales else None
            written.append((weight, None if found[1] is None else _as(found[1], linear)))
        for linear, (weight, bias) in zip(readers, written, strict=True):
            old = list(linear.node.inputs)
            self._write(linear, weight, bias)
            drop_unused(old)
        if stays is not None:
            behind = (first.rank or 0) - axis - 1 if axis >= 0 else 0
            stays = stays.reshape(()) if stays.size == 1 else stays.reshape(-1, *[1] * behind)
            shift = self._constant(chain[-1], f"{end.name}_shift", stays)
            self._shapes.learn(replace(end, "Add", [source, shift]))
        else:
            end.replace_all_uses_with(source)
        for inner in reversed(chain):
            discard(inner)
        self.rewrites += len(chain) - (stays is not None)

    def _write(self, linear: Linear, weight: np.ndarray | None, bias: np.ndarray | None) -> None:
        """New weights; None stays as it is, and zeros take the place of no bias for nothing."""
        node, given = linear.node, linear.node.inputs[1]
        assert given is not None
        if weight is not None:
            node.replace_input_with(1, self._constant(node, f"{given.name}_scaled", weight))
        if bias is None or (linear.bias is None and not bias.any()):
            return
        value = self._constant(node, f"{given.name}_bias", bias)
        node.resize_inputs(3)
        node.replace_input_with(2, value)
        node.attributes.pop("beta", None)

    def _constant(self, node: ir.Node, stem: str, array: np.ndarray) -> ir.Value:
        assert node.graph is not None
        name = self._names.fresh(stem)
        return add_initializer(node.graph, name, ir.tensor(array, name=name))


def _scaling(value: ir.Value) -> ir.Node | None:
    """A reader that may scale and shift ``value``."""
    for node, _ in value.uses():
        if data_of(node) is value:
            return node
    return None


def _untransposed(value: ir.Value) -> ir.Value:
    """What ``value`` is a transposition of, if it is one."""
    node = value.producer()
    data = node.inputs[0] if node is not None and is_op(node, "Transpose") else None
    return value if data is None else data


def _cast_between(value: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    """A Cast that reads ``value``, and what scales and shifts its result."""
    for node, _ in value.uses():
        scaling = _scaling(node.outputs[0]) if is_op(node, "Cast") else None
        if scaling is not None:
            return node, scaling
    return None


def _require_alone(value: ir.Value, node: ir.Node, other: ir.Node) -> None:
    """That only ``node`` reads ``value``, in the graph of ``other``."""
    if value.is_graph_output():
        raise _Refusal("it is an output of the graph too", value.producer())
    for user, _ in value.uses():
        if user is not node:
            raise _Refusal("another node reads it too", user)
    if node.graph is not other.graph:
        raise _Refusal("it is in another graph", other)


def _require_own_weights(linear: Linear) -> None:
    weight = linear.node.inputs[1]
    assert weight is not None
    for user, _ in weight.uses():
        if user is not linear.node:
            raise _Refusal("other nodes read the same weights", user)


def _require_normal(linear: Linear, weight: np.ndarray, *, inputs: bool) -> None:
    if linear.vanishes(weight, inputs=inputs):
        raise _Refusal(f"the new weights underflow {linear.weight.dtype}", linear.node)


def _is_normalised(value: ir.Value) -> bool:
    """Whether ``value`` is a quotient by a root, as layer normalisation writes it."""
    node = value.producer()
    if node is None or not is_op(node, "Div", "Mul"):
        return False
    roots = [side.producer() for side in node.inputs if side is not None]
    return any(root is not None and is_op(root, "Reciprocal", "Sqrt", "Pow") for root in roots)


def _why_no_shift(linear: Linear) -> str:
    if is_op(linear.node, "Conv"):
        return "it pads with zeros, which the shift does not reach"
    return f"a shift before a {linear.node.op_type} is none behind it"


def _as(array: np.ndarray, linear: Linear) -> np.ndarray:
    """``array`` in the type of the weights."""
    with np.errstate(all="ignore"):
        cast = array.astype(linear.weight.dtype)
    if not np.isfinite(cast.astype(np.float64)).all():
        raise _Refusal(f"the new weights overflow {linear.weight.dtype}", linear.node)
    return cast
