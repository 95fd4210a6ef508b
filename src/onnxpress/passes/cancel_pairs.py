"""Negations and casts that take each other back."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import discard, forward, is_op

T = ir.DataType
WHOLE = {
    T.BOOL: (0, 1), T.INT8: (1, 7), T.UINT8: (0, 8), T.INT16: (1, 15), T.UINT16: (0, 16),
    T.INT32: (1, 31), T.UINT32: (0, 32), T.INT64: (1, 63), T.UINT64: (0, 64),
}  # fmt: skip
"""Type → whether it has a sign, and its bits without that."""
EXACT_BITS = {T.FLOAT16: 11, T.BFLOAT16: 8, T.FLOAT: 24, T.DOUBLE: 53}
"""Type → how many bits of an integer it holds exactly."""
WIDER = {
    T.FLOAT16: (T.FLOAT, T.DOUBLE),
    T.BFLOAT16: (T.FLOAT, T.DOUBLE),
    T.FLOAT: (T.DOUBLE,),
    T.DOUBLE: (),
}
"""Type with a fraction → those that hold all of its numbers."""


@dataclass(frozen=True)
class CancelPairs(Pass):
    """``Neg(Neg(x))`` → ``x``, ``Not(Not(x))`` → ``x``, ``Cast(Cast(x, B), C)`` → ``Cast(x, C)``.

    Casts where B holds every number of x's type; then back to that type there is no cast at all.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        shapes = Shapes(model.ir)
        rewrites = 0
        for graph in model.ir.graphs():
            for node in list(graph):
                inner = _inner(node)
                if inner is None or inner.inputs[0] is None:
                    continue
                source, kept = inner.inputs[0], inner.outputs[0]
                types = [shapes.dtype(value) for value in (source, kept, node.outputs[0])]
                if is_op(node, "Cast") and not holds(types[1], types[0]):
                    continue  # the first one is there for what it loses
                if is_op(node, "Cast") and types[0] != types[2]:
                    node.replace_input_with(0, source)
                    rewrites += 1
                elif forward(node.outputs[0], source):
                    discard(node)
                    rewrites += 1
                if not kept.uses() and not kept.is_graph_output():
                    discard(inner)
        return Change(rewrites)


def holds(wide: ir.DataType | None, narrow: ir.DataType | None) -> bool:
    """Whether every number of ``narrow`` is one of ``wide``."""
    if wide is None or narrow is None:
        return False
    if wide == narrow:
        return True
    if narrow not in WHOLE:
        return wide in WIDER.get(narrow, ())
    signed, bits = WHOLE[narrow]
    if wide in WHOLE:
        return WHOLE[wide][0] >= signed and WHOLE[wide][1] >= bits and wide != T.BOOL
    return EXACT_BITS.get(wide, 0) >= bits


def _inner(node: ir.Node) -> ir.Node | None:
    """The node before ``node`` that does the same."""
    if not is_op(node, "Cast", "Neg", "Not") or node.inputs[0] is None:
        return None
    inner = node.inputs[0].producer()
    same = inner is not None and is_op(inner, node.op_type) and inner.graph is node.graph
    return inner if same else None
