"""Scaled dot-product attention of several heads as one operator of ONNX Runtime."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._attention_mask import (
    EXCLUDING,
    Addend,
    Masks,
    Scores,
    added,
    clamped,
    filled,
    rest_of,
)
from onnxpress.passes._heads import Heads, Refusal, heads_of
from onnxpress.passes._rewriting import CONTRIB, CONTRIB_TYPES, sweep, take
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.passes.simplify_views import SimplifyViews
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import Names, constant, is_op, name_of
from onnxpress.views import RESHAPES, View, Views

BETWEEN = (
    *("Add", "Div", "Mul", "Sub", "Cast", "Clip", "Max", "Min", "Where", "Identity", "Transpose"),
    *("Exp", "Neg", "Pow", "Relu", "Sigmoid", "Sqrt", "Tanh"),
    *RESHAPES,
)
"""What may stand between the scores of an attention and its Softmax."""
FAR = 16
"""How many of those are looked at."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """``Softmax(s·QKᵀ + m)·V`` → ``MultiHeadAttention(Q, K, V, m)``, for ONNX Runtime.

    Q, K and V are [batch, length, heads · size] on both sides, whatever reshapes and
    transpositions bring the heads in front and back, also where batch and heads are one
    dimension; the scale may stand at Q, K, the product or behind m. A number ≤ -10⁴ that takes a
    score's place counts as left out. Where rows that attend to nothing are made zero they stay
    so, but for one case: if every key of a batch's row is left out, it gets the mean of V.
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
            except Refusal as refusal:
                if not _weighs_a_product(node.inputs[0]):
                    continue  # a classifier's, or one of a pooling
                missed.append(Missed("Attention", (name_of(node),), str(refusal), refusal.blocking))
        if rewrites:
            sweep(model.ir)
            SimplifyViews().rewrite(model, facts)  # what brought the heads back goes, too
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites, missed=tuple(missed))


@dataclass(frozen=True)
class _Sides:
    """Queries, keys and values."""

    q: Heads
    k: Heads
    v: Heads

    def fitting(self) -> tuple[Heads, Heads, Heads]:
        """The three. Raises ``Refusal`` where their sizes are not of one attention."""
        q, k, v = self.q.sizes, self.k.sizes, self.v.sizes
        fits = k[:2] == q[:2] and k[3] == q[3]
        odd = (self.v if fits else self.k).view.source.producer()
        if k[:2] != q[:2] or v[:2] != q[:2]:
            raise Refusal(f"queries of {q[:2]}, keys of {k[:2]}, values of {v[:2]}", odd)
        if k[2] != v[2] or k[3] != q[3]:
            raise Refusal(f"queries of {q[2:]}, keys of {k[2:]}, values of {v[2:]}", odd)
        return self.q, self.k, self.v


def _unpacked(sides: _Sides, *, apart: bool) -> View:
    """Results [batch, length, heads · size] with the heads in front, rows and heads ``apart``."""
    q, size = sides.q, sides.v.size
    lead = (q.batch, q.heads) if apart else (q.batch + q.heads,)
    return View(q.view.source, (q.batch, q.length, q.heads + size), (*lead, q.length, size))


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._shapes, self._names = Shapes(model), Names(model)
        self._views = Views(self._shapes)
        self._writer = ViewWriter(model.graph, self._shapes, self._names)
        self._masks = Masks(model, self._shapes, self._names, self._writer)

    def fuse(self, softmax: ir.Node) -> None:
        """Raises ``Refusal``, and changes nothing that counts then."""
        self._check_axis(softmax)
        guarded, probabilities = self._unguarded(softmax.outputs[0])
        second = self._only_user(self._reshaped(probabilities), "MatMul", 0)
        addends, first, scale, least = self._scores(softmax.inputs[0])
        queries, factor_q = self._through_scalars(first.inputs[0])
        keys, factor_k = self._through_scalars(first.inputs[1])
        values, _ = self._through_scalars(second.inputs[1], scalars=False)
        scale *= factor_q * factor_k
        if not math.isfinite(scale) or not scale:  # the operator takes 0 for its default
            raise Refusal(f"its scale is {scale:g}", first)
        sides = _Sides(heads_of(queries, -2, -1), heads_of(keys, -1, -2), heads_of(values, -2, -1))
        batch, heads, length, size = sides.q.sizes
        dtype = self._shapes.dtype(softmax.inputs[0])
        if not isinstance(heads, int) or not isinstance(size, int):
            raise Refusal("the number or size of its heads is not known")
        if dtype not in CONTRIB_TYPES:
            raise Refusal(f"ONNX Runtime has none of {dtype}")
        plans = [(part, self._writer.best(part.packed)) for part in sides.fitting()]
        sizes = (batch, heads, length, sides.k.sizes[2])
        scores = Scores(sizes, dtype, queries.source, guarded, least)
        mask = self._masks.of(addends, scores, second)
        old = self._result(second, sides)
        lead = self._lead(old)
        if lead not in ((batch, heads), (batch * heads,)):
            raise Refusal("its result has other rows and heads than its queries", second)
        back = _unpacked(sides, apart=len(lead) == 2)
        way_back = self._writer.best(back)
        if way_back is None or any(steps is None for _, steps in plans):
            raise Refusal("its sizes cannot be constants")
        inputs = [
            self._writer.write(part.packed, steps or [], second, str(part.view.source.name))
            for part, steps in plans
        ]
        attributes: dict[str, int | float] = {"num_heads": heads}
        if not math.isclose(scale, size**-0.5, rel_tol=1e-6):
            attributes["scale"] = scale
        if mask.fill is not None:
            attributes["mask_filter_value"] = mask.fill
        given = _shortened([*inputs, None, mask.keys, mask.bias])
        name = self._names.fresh(f"{name_of(softmax)}_attention")
        node = ir.node("MultiHeadAttention", given, attributes, domain=CONTRIB, name=name)
        node.outputs[0].name = self._names.fresh(f"{second.outputs[0].name}_attention")
        second.prepend(inherit(node, second))
        self._shapes.learn(node)
        result = node.outputs[0]
        if mask.rows is not None:
            result = self._masks.zeroed(result, mask.rows, scores, second)
        result.type = old.type
        back = replace(back, source=result)
        take(old, self._writer.write(back, way_back, second, str(result.name)))

    def _result(self, second: ir.Node, sides: _Sides) -> ir.Value:
        """What ``second`` gives, with rows and heads apart where its only reader does that."""
        old = second.outputs[0]
        apart = self._reshaped(old)
        return apart if self._lead(apart) == sides.q.sizes[:2] else old

    def _check_axis(self, softmax: ir.Node) -> None:
        shape = self._shapes.shape(softmax.inputs[0])
        axis = softmax.attributes.get_int("axis", -1)
        if shape is None or axis not in (-1, len(shape) - 1) or len(shape) not in (3, 4):
            raise Refusal("it is not over the last of three or four dimensions")

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
            raise Refusal("its probabilities are an output of the model", value.producer())
        if len(uses) != 1:
            others = [user for user, index in uses if not (is_op(user, op) and index == place)]
            blocking = others[0] if others else None
            raise Refusal("its probabilities are read elsewhere too", blocking)
        user, index = uses[0]
        if not is_op(user, op) or index != place:
            raise Refusal(f"its probabilities go to {user.op_type}, not to {op}", user)
        return user

    def _scores(self, value: ir.Value | None) -> tuple[list[Addend], ir.Node, float, float | None]:
        """What is added to the product, the product, its scale, and what the sum is at least."""
        addends: list[Addend] = []
        scale: float = 1.0
        least: float | None = None
        while value is not None and (node := value.producer()) is not None:
            scalar = _scalar(node)
            if is_op(node, "MatMul"):
                return addends, node, scale, least
            if scalar is not None:
                value, factor = scalar
                scale *= factor
            elif is_op(node, "Add", "Sub") and len(node.inputs) == 2:
                sides = [self._reaches(side) for side in node.inputs]
                product_side = 0 if sides[0] else 1
                if sides[0] == sides[1] or (is_op(node, "Sub") and not sides[0]):
                    what = "two products are" if all(sides) else "no product with one scale is"
                    raise Refusal(f"{what} behind {node.op_type} '{name_of(node)}'", node)
                mask = node.inputs[1 - product_side]
                assert mask is not None
                value = node.inputs[product_side]
                factor = -scale if is_op(node, "Sub") else scale
                addend = added(mask) if factor == 1 else Addend(mask, factor=factor)
                addends.append(replace(addend, among=self._lead(value)))
            elif self._keeps_rows(node):
                value = node.inputs[0]
            elif not addends and scale == 1 and (found := clamped(node)) is not None:
                value, least = found
            elif (
                (hidden := filled(node)) is not None
                and scale > 0
                and (hidden.fill * scale <= EXCLUDING)
            ):
                value = rest_of(node, hidden)
                fill = hidden.fill * scale
                addends.append(replace(hidden, fill=fill, among=self._lead(value)))
            else:
                raise Refusal(f"{node.op_type} '{name_of(node)}' stands before it", node)
        raise Refusal("it is not of a product", None if value is None else value.producer())

    def _lead(self, value: ir.Value | None) -> tuple[Size, ...] | None:
        shape = self._shapes.shape(value)
        return None if shape is None else tuple(shape[:-2])

    def _reaches(self, value: ir.Value | None) -> bool:
        """Whether a MatMul with two computed sides is behind ``value``."""
        while value is not None and (node := value.producer()) is not None:
            if is_op(node, "MatMul"):
                return all(constant(side) is None for side in node.inputs)
            addend, scalar = filled(node), _scalar(node)
            if addend is not None:
                value = rest_of(node, addend)
            elif scalar is not None:
                value = scalar[0]
            elif self._keeps_rows(node):
                value = node.inputs[0]
            else:
                return is_op(node, "Add", "Sub") and any(map(self._reaches, node.inputs))
        return False

    def _keeps_rows(self, node: ir.Node) -> bool:
        """Whether it reshapes all but the last two dimensions."""
        if not is_op(node, *RESHAPES):
            return False
        before, after = self._shapes.shape(node.inputs[0]), self._shapes.shape(node.outputs[0])
        if before is None or after is None or min(len(before), len(after)) < 2:
            return False
        return before[-2:] == after[-2:]

    def _reshaped(self, value: ir.Value) -> ir.Value:
        """What the only reader of ``value`` makes of all but its last two dimensions."""
        while len(uses := list(value.uses())) == 1 and not value.is_graph_output():
            if not self._keeps_rows(uses[0][0]):
                break
            value = uses[0][0].outputs[0]
        return value

    def _through_scalars(
        self, value: ir.Value | None, *, scalars: bool = True
    ) -> tuple[View, float]:
        if value is None:
            raise Refusal("it is not of a product")
        factor = 1.0

        def passing(node: ir.Node) -> ir.Value | None:
            scalar = _scalar(node) if scalars else None
            return None if scalar is None else scalar[0]

        view = self._views.of(value, passing)
        for node in view.nodes:
            scalar = _scalar(node)
            factor *= 1.0 if scalar is None else scalar[1]
        return view, factor


def _weighs_a_product(value: ir.Value | None) -> bool:
    """Whether what a Softmax reads may be the scores of an attention: of two computed tensors."""
    left = [] if value is None else [value]
    for _ in range(FAR):
        if not left:
            break
        node = left.pop(0).producer()
        if node is not None and is_op(node, "Einsum", "MatMul"):
            if all(constant(side) is None for side in node.inputs):
                return True
        elif node is not None and is_op(node, *BETWEEN):
            left.extend(side for side in node.inputs if side is not None)
    return False


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
            if is_op(node, "Mul"):
                return data, factor
            return (data, 1 / factor) if factor else None
    return None
