"""Whole numbers as int32, for operators that take no other indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op

RING = ("Add", "Mul", "Sub")
"""What commutes with dropping the upper half of an integer."""


@dataclass(frozen=True)
class Plan:
    """The operators that would be ``made``, and the values that they (or others) would ``read``."""

    made: Sequence[str] = ()
    read: Sequence[ir.Value] = ()


class Narrowing:
    """Writes into one graph; what was narrowed once is there for all.

    An int64 becomes its lower half, as a Cast has it. So an int64 sum of what was int32 before is
    the sum of those, and needs no Cast at all.
    """

    def __init__(self, graph: ir.Graph, shapes: Shapes, names: Names) -> None:
        self._graph, self._shapes, self._names = graph, shapes, names
        self._done: dict[ir.Value, ir.Value] = {}

    def plan(self, value: ir.Value) -> Plan:
        """What ``write`` would do."""
        if value in self._done or constant(value) is not None:
            return Plan()
        source = self._narrow(value)
        if source is not None:
            return Plan((), (source,))
        parts = self._parts(value)
        if parts is None:
            return Plan(("Cast",), (value,))
        node = value.producer()
        assert node is not None
        made = [*(op for part in parts for op in part.made), node.op_type]
        return Plan(made, [one for part in parts for one in part.read])

    def write(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """``value`` as int32; new nodes stand before ``before``."""
        if value not in self._done:
            self._done[value] = self._narrow(value) or self._written(value, before)
        return self._done[value]

    def _written(self, value: ir.Value, before: ir.Node) -> ir.Value:
        name = self._names.fresh(f"{value.name}_int32")
        array = constant(value)
        if array is not None:
            tensor = ir.tensor(array.astype(np.int32), name=name)
            return add_initializer(self._graph, name, tensor)
        maker = value.producer()
        if self._parts(value) is None or maker is None:
            node = ir.node("Cast", [value], {"to": int(ir.DataType.INT32)}, name=name)
        else:
            inputs = [self.write(each, before) for each in maker.inputs if each is not None]
            node = ir.node(maker.op_type, inputs, name=name)
        new = node.outputs[0]
        new.name, new.type, new.shape = name, ir.TensorType(ir.DataType.INT32), value.shape
        before.prepend(node)
        self._shapes.learn(node)
        return new

    def _narrow(self, value: ir.Value) -> ir.Value | None:
        """The int32 tensor that ``value`` is, or was before a Cast."""
        if self._shapes.dtype(value) == ir.DataType.INT32:
            return value
        node = value.producer()
        source = node.inputs[0] if node is not None and is_op(node, "Cast") else None
        return source if self._shapes.dtype(source) == ir.DataType.INT32 else None

    def _parts(self, value: ir.Value) -> list[Plan] | None:
        """Those of the operands, where ``value`` is computed of what is int32 already."""
        node = value.producer()
        if node is None or not is_op(node, *RING) or len(value.uses()) > 1:
            return None
        plans = [self.plan(each) for each in node.inputs if each is not None]
        return None if any("Cast" in plan.made for plan in plans) else plans
