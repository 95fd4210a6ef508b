"""Which nodes become half precision: all that may, except where that gains nothing but Casts."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxpress.passes._half_slots import Half, Operators, Slots
from onnxpress.passes._half_values import MOVERS, Numbers
from onnxpress.values import constant_tensor, is_op

READERS = (
    "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "NonZero", "Shape", "Size",
)  # fmt: skip
"""Operators that look at floats and make none: they take what there is."""
PRODUCTS = (
    "Attention", "Conv", "ConvTranspose", "Einsum", "FusedGemm", "FusedMatMul", "GRU", "Gemm",
    "LSTM", "MatMul", "MatMulNBits", "MultiHeadAttention", "RNN",
)  # fmt: skip
"""What half precision is for; weights are the other thing."""
ARITHMETIC = (
    "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mul", "Neg", "Relu",
    "Round", "Sub",
)  # fmt: skip
"""Through which numbers come that become integers."""


class Choice:
    """``wide`` nodes stay in float32: node → why, empty for what only follows others.

    ``slots`` are what becomes half of each of the other ones.
    """

    def __init__(
        self,
        nodes: list[ir.Node],
        operators: Operators,
        numbers: Numbers,
        half: Half,
        why: Callable[[ir.Node], str],
    ) -> None:
        self._operators, self._numbers, self._half = operators, numbers, half
        self._nodes = [node for node in nodes if self._touches(node)]
        self.wide: dict[ir.Node, str] = {}
        self.slots: dict[ir.Node, Slots] = {}
        for node in self._nodes:
            if any(value in numbers.counted for value in node.outputs):
                self.wide[node] = ""
            elif reason := why(node):
                self.wide[node] = reason
            else:
                self.slots[node] = operators.slots(node)
        for node in nodes:
            if is_op(node, "Cast") and operators.is_float(node.inputs[0]):
                self._keep_digits(node)
        while self._followers() or self._islands():
            pass

    def is_half(self, value: ir.Value | None) -> bool:
        """Whether the node that makes ``value`` makes a half of it."""
        node = None if value is None else value.producer()
        if node is None or node not in self.slots:
            return False
        return any(node.outputs[index] is value for index in self.slots[node].outputs)

    def reads_half(self, node: ir.Node, index: int) -> bool:
        return node in self.slots and index in self.slots[node].inputs

    def _touches(self, node: ir.Node) -> bool:
        if is_op(node, "Constant"):
            return False
        values = (*node.inputs, *node.outputs)
        floats = any(map(self._operators.is_float, values))
        return floats or any(map(self._operators.is_untyped, values))

    def _widen(self, node: ir.Node) -> None:
        del self.slots[node]
        self.wide[node] = ""

    def _keep_digits(self, cast: ir.Node) -> None:
        """What becomes an integer is exact up to there, where a half would round it."""
        kind = ir.DataType(cast.attributes["to"].as_int())
        if kind.is_floating_point() or kind == ir.DataType.BOOL:
            return
        waiting = list(cast.inputs)
        while waiting:
            value = waiting.pop()
            node = None if value is None else value.producer()
            if value is None or node is None or node not in self.slots:
                continue
            span = self._numbers.span(value)
            rounds = span is None or span.most > self._half.whole
            if rounds and is_op(node, *ARITHMETIC, *MOVERS):
                self._widen(node)
                waiting.extend(node.inputs)

    def _followers(self) -> bool:
        """Keep what only moves or looks at float32 numbers; whether there was any."""
        found = False
        for node in self._nodes:
            if node in self.slots and is_op(node, *MOVERS, *READERS, "Cast"):
                read = [node.inputs[index] for index in self.slots[node].inputs]
                given = [value for value in read if value and constant_tensor(value) is None]
                if given and not any(map(self.is_half, given)):
                    self._widen(node)
                    found = True
        return found

    def _islands(self) -> bool:
        """Keep what hangs together in half precision without a product or a weight among it."""
        found, seen = False, set()
        for start in self._nodes:
            if start in seen or start not in self.slots:
                continue
            island, waiting = set(), [start]
            while waiting:
                node = waiting.pop()
                if node not in island:
                    island.add(node)
                    waiting.extend(self._neighbours(node))
            seen |= island
            if not any(map(self._pays, island)):
                found = True
                for node in island:
                    self._widen(node)
        return found

    def _neighbours(self, node: ir.Node) -> list[ir.Node]:
        slots = self.slots[node]
        makers = [node.inputs[index] for index in slots.inputs]
        found = [v.producer() for v in makers if v is not None and self.is_half(v)]
        for index in slots.outputs:
            uses = node.outputs[index].uses()
            found += [user for user, place in uses if self.reads_half(user, place)]
        return [other for other in found if other is not None]

    def _pays(self, node: ir.Node) -> bool:
        if node.op_type in PRODUCTS:
            return True
        return any(self._numbers.is_weight(node.inputs[index]) for index in self.slots[node].inputs)
