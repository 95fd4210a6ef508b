"""Rotary position embedding, written out by exporters, as one operator of ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.matching import Any, Match, blocking
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._heads import Heads, heads_of
from onnxpress.passes._rewriting import CONTRIB, CONTRIB_TYPES, sweep, take
from onnxpress.passes._view_writer import ViewWriter
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shape_rules import Shape, slices
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op, name_of, opset
from onnxpress.views import RESHAPES, View, Views

X, TURNED, COS, SIN = Any(computed=True), Any(computed=True), Any(), Any()
FORM = (X * COS) + (TURNED * SIN)
ATTRIBUTES = {"interleaved": 0, "is_packed_batching": 0, "rotary_embedding_dim": 0, "scale": 1.0}
"""The operator's defaults, of which OpenVINO wants some to be told."""
SQUEEZE_OPSET = 13
"""From where its axes are an input; CumSum, which counts the places, is older."""
_Why = tuple[str, str]
"""Why there is none, and the name of the node in the way, if it is one."""
ELEMENTWISE = ("Cast", "Cos", "Identity", "Neg", "Sin")
"""Operators of one input that treat both halves of a dimension alike."""


@dataclass(frozen=True)
class FuseRotary(Pass):
    """``x·cos + [-x₂, x₁]·sin`` → ``RotaryEmbedding(x, cos, sin)``, for ONNX Runtime.

    x₁ and x₂ are the halves of x [batch, heads, length, size] along its last dimension; those of
    cos and sin [length, size] are equal, and the same in all rows of a batch (Su et al., 2021).
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        missed, rewrites = [], 0
        for node in list(model.ir.graph):
            found = work.find(node) if is_op(node, "Add") else None
            if found is None:
                continue
            why = work.fuse(node, found)
            rewrites += not why
            if why:
                missed.append(Missed("RotaryEmbedding", (name_of(node),), *why))
        if rewrites:
            sweep(model.ir)
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites, missed=tuple(missed))


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self._graph, self._opset = model.graph, opset(model)
        self._shapes, self._names = Shapes(model), Names(model)
        self._views = Views(self._shapes)
        self._writer = ViewWriter(model.graph, self._shapes, self._names)
        self._caches: dict[ir.Value, ir.Value] = {}
        self._places: dict[tuple[Size, Size], ir.Value] = {}

    def find(self, node: ir.Node) -> Match | None:
        """The parts of a rotation that ends with ``node``."""
        for found in FORM.matches(node.outputs[0], Match()):
            turned = found[TURNED].producer()
            if turned is not None and self._turns(turned, found[X]):
                return found
        return None

    def fuse(self, node: ir.Node, found: Match) -> _Why | None:
        """The reason why not, or None."""
        why, half = self._why_not(node, found), (self._shapes.shape(found[X]) or (0,))[-1]
        heads = None if why else heads_of(self._views.of(found[X]), -2, -1)
        if heads is None or not isinstance(half, int):
            return why
        count = heads.sizes[1]
        if not isinstance(count, int):
            return "the number of its heads is not known", _maker(found[X])
        steps = self._writer.best(heads.packed)
        caches = [self._cache(found[part], half // 2, node) for part in (COS, SIN)]
        moves = steps is None or any(step.perm for step in steps)
        packed = found[X]
        if steps is not None and not moves:
            packed = self._writer.write(heads.packed, steps, node, str(packed.name))
        fused = ir.node(
            "RotaryEmbedding", [packed, self._positions(packed, node), *caches],
            {**ATTRIBUTES, "num_heads": count}, domain=CONTRIB, name=node.name,
        )  # fmt: skip
        self._put(node, fused, None if moves else heads)
        return None

    def _why_not(self, node: ir.Node, found: Match) -> _Why | None:
        readers, shape = blocking(found, node.outputs[0]), self._shapes.shape(found[X])
        if readers:
            return f"'{name_of(readers[0])}' reads a part of it", name_of(readers[0])
        if shape is None or len(shape) != 4 or not isinstance(shape[3], int):
            return "it is not of [batch, heads, length, size]", _maker(found[X])
        if self._shapes.dtype(found[X]) not in CONTRIB_TYPES:
            return f"ONNX Runtime has none of {self._shapes.dtype(found[X])}", ""
        if self._opset < SQUEEZE_OPSET:
            return f"it needs opset {SQUEEZE_OPSET}, the model has {self._opset}", ""
        for part in (COS, SIN):
            why = self._why_no_angles(found[part], shape)
            if why:
                return why, _maker(found[part])
        return None

    def _why_no_angles(self, value: ir.Value, shape: Shape) -> str:
        if self._shapes.shape(value) != (1, 1, *shape[2:]):
            return "its angles are not the same for all rows and heads"
        return "" if self._doubled(value) else "the halves of its angles are not known to be equal"

    def _put(self, node: ir.Node, fused: ir.Node, packed: Heads | None) -> None:
        """``fused`` where ``node`` stands; what it makes of ``packed`` heads gets them in front."""
        old, value = node.outputs[0], fused.outputs[0]
        value.name, value.type = self._names.fresh(f"{old.name}_rotary"), old.type
        node.prepend(inherit(fused, node))
        self._shapes.learn(fused)
        if packed is not None:
            back = View(value, packed.packed.after, packed.view.after)
            steps = self._writer.best(back)
            assert steps is not None, "what was packed can be unpacked"
            value = self._writer.write(back, steps, node, str(value.name))
        take(old, value)

    def _turns(self, node: ir.Node, x: ir.Value) -> bool:
        """Whether ``node`` makes [-x₂, x₁] of x = [x₁, x₂]."""
        if not is_op(node, "Concat") or len(node.inputs) != 2:
            return False
        first, second = node.inputs
        negated = None if first is None else first.producer()
        shape = self._shapes.shape(x)
        if shape is None or negated is None or not is_op(negated, "Neg"):
            return False
        last = node.attributes.get_int("axis", 0) in (-1, len(shape) - 1)
        return last and self._half(negated.inputs[0], x, 1) and self._half(second, x, 0)

    def _half(self, value: ir.Value | None, x: ir.Value, which: int) -> bool:
        """Whether ``value`` is the first or second half of ``x`` along its last dimension."""
        node, shape = None if value is None else value.producer(), self._shapes.shape(x)
        if node is None or shape is None or node.inputs[0] is not x:
            return False
        size, axis = shape[-1], len(shape) - 1
        if not isinstance(size, int) or (self._shapes.shape(value) or (0,))[-1] * 2 != size:
            return False
        if is_op(node, "Split"):
            along = node.attributes.get_int("axis", 0) in (-1, axis)
            return along and node.outputs[which] is value
        parts = slices(self._shapes, node) if is_op(node, "Slice") else None
        if parts is None or set(parts) - {-1, axis} or len(parts) != 1:
            return False
        start, _, step = next(iter(parts.values()))
        return step == 1 and start in ((0, -size), (size // 2, -size // 2))[which]

    def _doubled(self, value: ir.Value | None) -> bool:
        """Whether both halves of the last dimension are equal."""
        array, node = constant(value), None if value is None else value.producer()
        if array is not None:
            half = array.shape[-1] // 2 if array.ndim else 0
            return array.ndim > 0 and np.array_equal(array[..., :half], array[..., half:])
        shape = self._shapes.shape(value)
        if node is None or shape is None:
            return False
        data = node.inputs[0]
        if is_op(node, "Concat"):
            last = node.attributes.get_int("axis", 0) in (-1, len(shape) - 1)
            return last and len(node.inputs) == 2 and data is node.inputs[1]
        if is_op(node, "Mul", "Div"):
            other = constant(node.inputs[1])
            return other is not None and other.size == 1 and self._doubled(data)
        same = (self._shapes.shape(data) or (0,))[-1:] == shape[-1:]
        if is_op(node, "Gather"):
            return same and node.attributes.get_int("axis", 0) == 0 and self._doubled(data)
        return same and is_op(node, *ELEMENTWISE, *RESHAPES) and self._doubled(data)

    def _cache(self, value: ir.Value, half: int, before: ir.Node) -> ir.Value:
        """``value`` [1, 1, length, size] as [length, size / 2]."""
        if value not in self._caches:
            constants = [self._writer.constant((number,)) for number in (0, half, 3)]
            node = ir.node("Slice", [value, *constants])
            node.outputs[0].name = node.name = self._names.fresh(f"{value.name}_half")
            node.outputs[0].type = value.type
            before.prepend(inherit(node, before))
            self._shapes.learn(node)
            axes = self._writer.constant((0, 1))
            flat = ir.node("Squeeze", [node.outputs[0], axes])
            flat.outputs[0].name = flat.name = self._names.fresh(f"{value.name}_cache")
            flat.outputs[0].type = value.type
            before.prepend(inherit(flat, before))
            self._shapes.learn(flat)
            self._caches[value] = flat.outputs[0]
        return self._caches[value]

    def _positions(self, packed: ir.Value, before: ir.Node) -> ir.Value:
        """The place of each element, [batch, length].

        ONNX Runtime takes the first place alone as well; OpenVINO then turns all by its angle.
        """
        shape = self._shapes.shape(packed)
        assert shape is not None
        axes = (0, len(shape) - 2)
        batch, length = (shape[axis] for axis in axes)
        if (batch, length) not in self._places:
            if isinstance(batch, int) and isinstance(length, int):
                found = self._initializer(np.tile(np.arange(length), (batch, 1)))
            else:
                sizes = self._made(ir.node("Shape", [packed]), before)
                both = ir.node("Gather", [sizes, self._writer.constant(axes)])
                ones = ir.tensor(np.ones(1, np.int64))
                of_both = [self._made(both, before)]
                filled = self._made(ir.node("ConstantOfShape", of_both, {"value": ones}), before)
                along = [filled, self._initializer(np.array(1))]
                found = self._made(ir.node("CumSum", along, {"exclusive": 1}), before)
            self._places[batch, length] = found
        return self._places[batch, length]

    def _made(self, node: ir.Node, before: ir.Node) -> ir.Value:
        """What ``node`` makes, which stands before ``before``."""
        node.outputs[0].name = node.name = self._names.fresh("position")
        before.prepend(inherit(node, before))
        self._shapes.learn(node)
        return node.outputs[0]

    def _initializer(self, numbers: np.ndarray) -> ir.Value:
        name = self._names.fresh("position")
        return add_initializer(self._graph, name, ir.tensor(numbers.astype(np.int64), name=name))


def _maker(value: ir.Value) -> str:
    node = value.producer()
    return "" if node is None else name_of(node)
