"""Scaled dot-product attention of several heads as one operator of ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size, product
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._rewriting import sweep
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.passes.simplify_views import SimplifyViews
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, constant, is_op, name_of
from onnxpress.views import Factor, View, Views

CONTRIB = "com.microsoft"
EXCLUDING = -1e4
"""What is added to a score that must not count; exp() of it is 0 in every float type."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """``Softmax(s·QKᵀ + m)·V`` → ``MultiHeadAttention(Q, K, V, m)``, for ONNX Runtime.

    Q, K and V are [batch, length, heads · size] on both sides, whatever reshapes and
    transpositions bring the heads in front and back; the scale may stand at Q, K or the product.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        missed: list[Missed] = []
        rewrites = 0
        for node in list(model.ir.graph):
            if not is_op(node, "Softmax"):
                continue
            try:
                work.fuse(node)
                rewrites += 1
            except _Refusal as refusal:
                missed.append(Missed("Attention", (name_of(node),), str(refusal), refusal.blocking))
        if rewrites:
            sweep(model.ir)
            SimplifyViews().rewrite(model, facts)  # what brought the heads back goes, too
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites, missed=tuple(missed))


class _Refusal(Exception):
    """Why a Softmax stays, and which node is in the way."""

    def __init__(self, why: str, node: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = "" if node is None else name_of(node)


@dataclass(frozen=True)
class _Heads:
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


@dataclass(frozen=True)
class _Mask:
    """What keeps scores from counting: an addend, or ones for keys that count."""

    bias: ir.Value | None = None
    keys: ir.Value | None = None
    fill: float | None = None


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._shapes, self._names = Shapes(model), Names(model)
        self._views = Views(self._shapes)
        self._writer = ViewWriter(model.graph, self._shapes, self._names)
        self._masks: dict[object, ir.Value] = {}

    def fuse(self, softmax: ir.Node) -> None:
        """Raises ``_Refusal``, and changes nothing then."""
        self._check_axis(softmax)
        guarded, probabilities = self._unguarded(softmax.outputs[0])
        second = self._only_user(probabilities, "MatMul", 0)
        masks, first, scale = self._scores(softmax.inputs[0])
        queries, factor_q = self._through_scalars(first.inputs[0])
        keys, factor_k = self._through_scalars(first.inputs[1])
        values, _ = self._through_scalars(second.inputs[1], scalars=False)
        q = _heads(queries, -2, -1)
        k = _heads(keys, -1, -2)
        v = _heads(values, -2, -1)
        batch, heads, length, size = q.sizes
        if not isinstance(heads, int) or not isinstance(size, int):
            raise _Refusal("the number or size of its heads is not known")
        if k.sizes[:2] != (batch, heads) or v.sizes[:2] != (batch, heads):
            raise _Refusal(
                f"queries of {q.sizes[:2]}, keys of {k.sizes[:2]}, values of {v.sizes[:2]}"
            )
        if k.sizes[2] != v.sizes[2] or k.sizes[3] != size:
            told = f"queries of {q.sizes[2:]}, keys of {k.sizes[2:]}, values of {v.sizes[2:]}"
            raise _Refusal(told)
        plans = [(part, self._writer.best(part.packed)) for part in (q, k, v)]
        if any(steps is None for _, steps in plans):
            raise _Refusal("its sizes cannot be constants")
        added = self._mask(masks, (batch, heads, length, k.sizes[2]), second)
        inputs = [
            self._writer.write(part.packed, steps or [], second, str(part.view.source.name))
            for part, steps in plans
        ]
        attributes: dict[str, int | float] = {"num_heads": heads}
        scale *= factor_q * factor_k
        if not math.isclose(scale, size**-0.5, rel_tol=1e-6):
            attributes["scale"] = scale
        if added.fill is not None:
            attributes["mask_filter_value"] = added.fill
        node = ir.node(
            "MultiHeadAttention",
            _shortened([*inputs, None, added.keys, added.bias]),
            attributes,
            domain=CONTRIB,
            name=self._names.fresh(f"{softmax.name or softmax.outputs[0].name}_attention"),
        )
        result = node.outputs[0]
        result.name = self._names.fresh(f"{second.outputs[0].name}_attention")
        result.type = second.outputs[0].type
        axes = (q.batch, q.length, q.heads + v.size)
        second.prepend(inherit(node, second))
        self._shapes.learn(node)
        if guarded:
            result = self._finite(result, second)
        rank = len(self._shapes.shape(second.outputs[0]) or ())
        lead = (q.batch, q.heads) if rank == 4 else (q.batch + q.heads,)
        back = View(result, axes, (*lead, q.length, v.size))
        steps = self._writer.best(back)
        assert steps is not None, "what was packed can be unpacked"
        output = self._writer.write(back, steps, second, str(result.name))
        old = second.outputs[0]
        output.name, name = old.name, output.name
        old.name = name
        old.replace_all_uses_with(output)

    def _check_axis(self, softmax: ir.Node) -> None:
        shape = self._shapes.shape(softmax.inputs[0])
        axis = softmax.attributes.get_int("axis", -1)
        if shape is None or axis not in (-1, len(shape) - 1) or len(shape) not in (3, 4):
            raise _Refusal("it is not over the last of three or four dimensions")

    def _unguarded(self, value: ir.Value) -> tuple[bool, ir.Value]:
        """Past ``Where(IsNaN(p), 0, p)``, which makes rows that attend to nothing zero."""
        users = [user for user, _ in value.uses()]
        tests = [user for user in users if is_op(user, "IsNaN")]
        wheres = [user for user in users if is_op(user, "Where")]
        if len(tests) == len(wheres) == 1 and len(users) == 2:
            zero = constant(wheres[0].inputs[1])
            if (
                wheres[0].inputs[0] is tests[0].outputs[0]
                and wheres[0].inputs[2] is value
                and zero is not None
                and not zero.any()
            ):
                return True, wheres[0].outputs[0]
        return False, value

    def _only_user(self, value: ir.Value, op: str, place: int) -> ir.Node:
        uses = list(value.uses())
        if value.is_graph_output():
            raise _Refusal("its probabilities are an output of the model", value.producer())
        if len(uses) != 1:
            others = [user for user, index in uses if not (is_op(user, op) and index == place)]
            blocking = others[0] if others else None
            raise _Refusal("its probabilities are read elsewhere too", blocking)
        user, index = uses[0]
        if not is_op(user, op) or index != place:
            raise _Refusal(f"its probabilities go to {user.op_type}, not to {op}", user)
        return user

    def _scores(self, value: ir.Value | None) -> tuple[list[ir.Value], ir.Node, float]:
        """What is added to the product, the product, and its scale."""
        masks: list[ir.Value] = []
        scale = 1.0
        while value is not None and (node := value.producer()) is not None:
            scalar = _scalar(node)
            if is_op(node, "MatMul"):
                return masks, node, scale
            if scalar is not None:
                value, factor = scalar
                scale *= factor
            elif is_op(node, "Add") and len(node.inputs) == 2:
                if scale != 1:
                    raise _Refusal("a scale stands behind what is added")
                sides = [self._reaches(side) for side in node.inputs]
                if sides[0] == sides[1]:
                    break
                product_side = 0 if sides[0] else 1
                mask = node.inputs[1 - product_side]
                assert mask is not None
                masks.append(mask)
                value = node.inputs[product_side]
                continue
            else:
                raise _Refusal(f"{node.op_type} '{name_of(node)}' stands before it", node)
        raise _Refusal("it is not of a product")

    def _reaches(self, value: ir.Value | None) -> bool:
        """Whether a MatMul with two computed sides is behind ``value``."""
        while value is not None and (node := value.producer()) is not None:
            if is_op(node, "MatMul"):
                return all(constant(side) is None for side in node.inputs)
            scalar = _scalar(node)
            if scalar is None:
                return is_op(node, "Add") and any(map(self._reaches, node.inputs))
            value = scalar[0]
        return False

    def _through_scalars(
        self, value: ir.Value | None, *, scalars: bool = True
    ) -> tuple[View, float]:
        if value is None:
            raise _Refusal("it is not of a product")
        factor = 1.0

        def passing(node: ir.Node) -> ir.Value | None:
            scalar = _scalar(node) if scalars else None
            return None if scalar is None else scalar[0]

        view = self._views.of(value, passing)
        for node in view.nodes:
            scalar = _scalar(node)
            factor *= 1.0 if scalar is None else scalar[1]
        return view, factor

    def _mask(self, masks: list[ir.Value], sizes: tuple[Size, ...], before: ir.Node) -> _Mask:
        """``masks`` as the operator takes them, new nodes before ``before``."""
        if not masks:
            return _Mask()
        if len(masks) > 1:
            raise _Refusal("several values are added to its scores")
        (mask,) = masks
        shape = self._shapes.shape(mask)
        if shape is None:
            raise _Refusal("the shape of what is added to its scores is not known")
        full = (1,) * (4 - len(shape)) + tuple(shape)
        fits = all(have in (1, want) for have, want in zip(full, sizes, strict=True))
        if len(full) != 4 or not fits or full[3] != sizes[3]:
            raise _Refusal(f"what is added to its scores has the shape {list(shape)}")
        if full[:3] == (sizes[0], 1, 1):
            keys = self._key_mask(mask, shape, before)
            if keys is not None:
                return keys
        if len(shape) < 4:
            mask = self._shared(("rank", mask), lambda: self._ranked(mask, shape, full, before))
        if full[2] != sizes[2]:
            raise _Refusal(f"what is added to its scores has the shape {list(shape)}")
        return _Mask(bias=mask)

    def _key_mask(self, mask: ir.Value, shape: tuple[Size, ...], before: ir.Node) -> _Mask | None:
        """``Where(kept, 0, fill)`` of keys alone, as ones where they are kept."""
        node = mask.producer()
        if node is None or not is_op(node, "Where"):
            return None
        zero, fill, kept = constant(node.inputs[1]), constant(node.inputs[2]), node.inputs[0]
        if zero is None or fill is None or kept is None or zero.any() or fill.size != 1:
            return None
        number = float(fill.reshape(-1)[0])
        if number > EXCLUDING or self._shapes.shape(kept) != shape:
            return None

        def make() -> ir.Value:
            view = self._views.of(kept)
            flat = View(view.source, view.before, tuple(axis for axis in view.after if axis))
            steps = self._writer.best(flat) if len(flat.after) == 2 else None
            if steps is None:
                raise _Refusal("what excludes its keys is not [batch, keys]")
            value = self._writer.write(flat, steps, before, str(kept.name))
            whole = ir.node("Cast", [value], {"to": int(ir.DataType.INT32)})
            whole.outputs[0].name = whole.name = self._names.fresh(f"{kept.name}_keys")
            before.prepend(inherit(whole, before))
            self._shapes.learn(whole)
            return whole.outputs[0]

        keys = self._shared(("keys", kept), make)
        lowest = float(np.finfo(np.float32).min)
        return _Mask(keys=keys, fill=max(number, lowest))

    def _ranked(
        self, mask: ir.Value, shape: tuple[Size, ...], full: tuple[Size, ...], before: ir.Node
    ) -> ir.Value:
        ranked = self._writer.reshaped(mask, shape, full, before)
        if ranked is None:
            raise _Refusal("the shape of what is added to its scores is not constant")
        return ranked

    def _shared(self, key: object, make: Callable[[], ir.Value]) -> ir.Value:
        if key not in self._masks:
            self._masks[key] = make()
        return self._masks[key]

    def _finite(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """``Where(IsNaN(y), 0, y)``."""
        return value


def _shortened(inputs: list[ir.Value | None]) -> list[ir.Value | None]:
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def _scalar(node: ir.Node) -> tuple[ir.Value, float] | None:
    """``x`` and ``c`` of a node that computes ``x · c`` for one number."""
    if not is_op(node, "Mul", "Div") or len(node.inputs) != 2:
        return None
    for place in (1, 0) if is_op(node, "Mul") else (1,):
        number, data = constant(node.inputs[place]), node.inputs[1 - place]
        if number is not None and data is not None and number.size == 1 and number.ndim <= 1:
            factor = float(number.reshape(())[()])
            return data, factor if is_op(node, "Mul") else 1 / factor
    return None


def _heads(view: View, length: int, size: int) -> _Heads:
    """Raises ``_Refusal`` where batch and heads cannot be told apart."""
    axes = view.after
    if len(axes) not in (3, 4):
        raise _Refusal("a side of its product has not three or four dimensions")
    order = sum(view.before, ())
    lead = sum(axes[:-2], ())
    along = axes[length]
    place = min((order.index(factor) for factor in along), default=None)
    if len(axes) == 4:
        return _Heads(view, axes[0], axes[1], along, axes[size])
    if place is None:
        raise _Refusal("batch and heads cannot be told apart")
    batch = tuple(factor for factor in lead if order.index(factor) < place)
    heads = tuple(factor for factor in lead if order.index(factor) > place)
    return _Heads(view, batch, heads, along, axes[size])
