"""Layer normalisation, written out by exporters, as one operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.matching import Any, Constant, Match, Number, OneOf, Op, Pattern, blocked, match
from onnxpress.model import Model
from onnxpress.passes._rewriting import replace
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shape_rules import Shape
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op, name_of, opset

LAYER_NORM_OPSET, RMS_NORM_OPSET = 17, 23
"""The first opsets with these operators."""

OWN = {
    "LayerNormalization": "LayerNormalization",
    "RMSNormalization": "SimplifiedLayerNormalization",
}
"""Operator → what ONNX Runtime computes at any opset, as it fuses it itself."""
OWN_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

X = Any(computed=True)
EPSILON, GAMMA, BETA, TWO = Number(), Constant(), Constant(), Number(2.0)


def _mean(of: Pattern) -> Pattern:
    return Op("ReduceMean", of)


def _root(of: Pattern) -> Pattern:
    return Op("Sqrt", of + EPSILON)


def _over_root(number: Pattern, of: Pattern) -> Pattern:
    """``number / √(of + ε)``, in the ways that there are."""
    root = _root(of)
    return OneOf(number / root, number * OneOf(Op("Reciprocal", root), Number(1.0) / root))


def _square(of: Pattern) -> Pattern:
    return OneOf(Op("Pow", of, TWO), of * of)


def _apart(factor: Pattern) -> tuple[Pattern, ...]:
    """``x·factor - mean(x)·factor + β``, as TensorFlow writes it."""
    scaled, less = X * factor, Op("Neg", MEAN) * factor
    return (
        scaled + (less + BETA),
        scaled + (BETA - (MEAN * factor)),
        (scaled + less) + BETA,
        scaled + less,
        scaled - (MEAN * factor),
    )


MEAN = _mean(X)
CENTRED = X - MEAN
SPREAD = _mean(_square(CENTRED))
NORMAL = _over_root(CENTRED, SPREAD)
INVERSE = OneOf(Number(1.0) / _root(SPREAD), Op("Reciprocal", _root(SPREAD)))
ROOTED = _over_root(X, _mean(_square(X)))
WIDE = Op("Cast", X)
WIDE_ROOTED = Op("Cast", _over_root(WIDE, _mean(_square(WIDE))))
FORMS: Mapping[str, tuple[Pattern, ...]] = {
    "LayerNormalization": (
        (NORMAL * GAMMA) + BETA,
        *_apart(INVERSE * GAMMA),
        *_apart(INVERSE),
        NORMAL * GAMMA,
        NORMAL,
    ),
    "RMSNormalization": (WIDE_ROOTED * GAMMA, ROOTED * GAMMA, ROOTED),
}
"""Operator → its formulas, the longest first."""
OPSETS = {"LayerNormalization": LAYER_NORM_OPSET, "RMSNormalization": RMS_NORM_OPSET}


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """``γ · (x - mean(x)) / √(mean((x - mean(x))²) + ε) + β`` → ``LayerNormalization(x, γ, β)``.

    Without the means in the numerator ``RMSNormalization(x, γ)`` (Zhang and Sennrich, 2019), from
    opset 23 on; of float16, it may be computed in float32. The means are over the last dimension;
    γ and β are constants of its size. With ``contrib`` what ONNX Runtime computes at older opsets,
    too: onnx's checker knows no ``SimplifiedLayerNormalization`` and, below opset 17, no
    ``LayerNormalization``.
    """

    rtol = 1e-4
    contrib: bool = False

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir, self.contrib)
        for node in reversed(list(model.ir.graph)):
            if node.graph is not None and is_op(node, "Add", "Sub", "Mul", "Div"):
                work.fuse(node)
        return Change(work.rewrites, missed=(*work.missed, *work.left_alone()))


class _Work:
    def __init__(self, model: ir.Model, contrib: bool) -> None:
        self.rewrites = 0
        self._contrib = contrib
        self.missed: list[Missed] = []
        self._blocked: list[tuple[tuple[ir.Node, ...], Missed]] = []
        self._graph, self._opset = model.graph, opset(model)
        self._shapes, self._names = Shapes(model), Names(model)

    def fuse(self, node: ir.Node) -> None:
        for op, forms in FORMS.items():
            for form in forms:
                found = match(form, node.outputs[0])
                if found is None or not self._is_same_type(found, node):
                    continue
                why = self._why_not(op, found)
                if why and self._is_told(found.nodes):
                    return
                if why:
                    self.missed.append(Missed(op, tuple(map(name_of, found.nodes)), why))
                else:
                    self._replace(op, node, found)
                return
        self._look_for_readers(node)

    def _look_for_readers(self, node: ir.Node) -> None:
        """Remember a formula that cannot go since others read a part of it."""
        for op, forms in FORMS.items():
            for form in forms:
                found = blocked(form, node.outputs[0])
                if found is None:
                    continue
                nodes = found.match.nodes
                if not self._is_told(nodes):
                    names = tuple(map(name_of, nodes))
                    self._blocked.append((nodes, Missed(op, names, found.why, found.reader)))
                return

    def _is_told(self, nodes: Sequence[ir.Node]) -> bool:
        """Whether they are a part of what others read."""
        return any(set(nodes) <= set(known) for known, _ in self._blocked)

    def left_alone(self) -> list[Missed]:
        """What others read, unless a part of it was fused after all."""
        return [
            missed
            for nodes, missed in self._blocked
            if all(node.graph is not None for node in nodes)
        ]

    def _is_same_type(self, found: Match, node: ir.Node) -> bool:
        """Whether Casts, if it has any, are to float32 and back."""
        if WIDE not in found.values:
            return True
        narrow = self._shapes.dtype(found[X])
        wide = self._shapes.dtype(found[WIDE])
        back = self._shapes.dtype(found[WIDE_ROOTED])
        return narrow in NARROW and narrow == back and wide == ir.DataType.FLOAT

    def _why_not(self, op: str, found: Match) -> str:
        if self._opset < OPSETS[op] and not self._contrib:
            return f"it needs opset {OPSETS[op]}, the model has {self._opset}"
        shape, dtype = self._shapes.shape(found[X]), self._shapes.dtype(found[X])
        if self._opset < OPSETS[op] and dtype not in OWN_TYPES:
            return "ONNX Runtime does not compute it in that type"
        if shape is None or not isinstance(shape[-1], int):
            return "the size of its last dimension is not known"
        for node in found.nodes:
            if is_op(node, "ReduceMean") and self._axes(node) not in ([-1], [len(shape) - 1]):
                return "a mean is not over the last dimension alone"
        for part in (GAMMA, BETA):
            array = constant(found.values.get(part))
            if array is not None and not _along_last(array, shape):
                return f"a factor or addend has the shape {list(array.shape)}"
        return ""

    def _axes(self, node: ir.Node) -> list[int] | None:
        if not node.attributes.get_int("keepdims", 1):
            return None
        if "axes" in node.attributes:
            return list(node.attributes["axes"].as_ints())
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if given is None else given.reshape(-1).tolist()

    def _replace(self, op: str, node: ir.Node, found: Match) -> None:
        shape, dtype = self._shapes.shape(found[X]), self._shapes.dtype(found[X])
        assert shape is not None
        assert dtype is not None
        size = shape[-1]
        assert isinstance(size, int)
        parts = [GAMMA, BETA] if op == "LayerNormalization" else [GAMMA]
        inputs: list[ir.Value | None] = [found[X]]
        for part in parts:
            array = constant(found.values.get(part))
            if array is None and part is BETA:
                continue
            numbers = np.ones(size, dtype.numpy()) if array is None else array.reshape(-1)
            name = self._names.fresh(
                f"{node.outputs[0].name}_{'gamma' if part is GAMMA else 'beta'}"
            )
            inputs.append(add_initializer(self._graph, name, ir.tensor(numbers, name=name)))
        attributes = {"axis": -1, "epsilon": found.number(EPSILON)}
        name = op if self._opset >= OPSETS[op] else OWN[op]
        new = replace(node.outputs[0], name, inputs, attributes, gone=found.nodes)
        new.outputs[0].type = ir.TensorType(dtype)  # onnx infers none of what it does not know
        self._shapes.learn(new)
        self.rewrites += 1


def _along_last(array: np.ndarray, shape: Shape) -> bool:
    """Whether ``array`` is a row that the last dimension of a tensor of ``shape`` takes."""
    return array.shape[-1:] == (array.size,) == tuple(shape[-1:]) and array.ndim <= len(shape)
