"""Which values of a model no input can change, and how they become initializers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxpress.passes._evaluation import evaluate, is_foldable, output_bytes
from onnxpress.shapes import Shapes
from onnxpress.values import add_initializer, constant, discard, is_op, opset

MOVES = ("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Operators that move elements of their data and compute nothing with them."""
FREE = -(1 << 40)
"""Stands for a free dimension in an array of dimensions; no known one is negative."""


class Constants:
    """The constants of one model: all are found first, in topological order, then written."""

    def __init__(self, model: ir.Model, max_bytes: int) -> None:
        self.growth = 0
        self.refusals: list[str] = []
        self._max_bytes = max_bytes
        self._opset = opset(model)
        self._inferred = Shapes(model)
        self._known: dict[ir.Value, np.ndarray] = {}
        self._partly: dict[ir.Value, np.ndarray] = {}
        self._folded: list[ir.Node] = []
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if any(value.uses() for value in node.outputs):
                self._visit(node)

    def write(self) -> int:
        """Turn what is known into initializers of its graph: how many nodes went."""
        folded = set(self._folded)
        for node in self._folded:
            assert node.graph is not None
            for value in node.outputs:
                if any(user not in folded for user, _ in value.uses()):
                    # A new tensor: clones share the old one, and a tensor carries its name.
                    tensor = ir.tensor(self._known[value], name=value.name)
                    name, value.name = str(value.name), None
                    value.replace_all_uses_with(add_initializer(node.graph, name, tensor))
        for node in reversed(self._folded):
            discard(node)
        return len(folded)

    def _visit(self, node: ir.Node) -> None:
        if any(value.is_graph_output() for value in node.outputs):
            return
        if is_op(node, "Constant"):
            array = constant(node.outputs[0])
            if array is not None:
                self._fold(node, [array])
        elif is_op(node, "Shape", "Size"):
            self._visit_shape(node)
        elif is_foldable(node):
            self._visit_computation(node)

    def _visit_shape(self, node: ir.Node) -> None:
        data = node.inputs[0]
        shape = None if data is None else self._inferred.shape(data)
        if shape is None:
            return
        dims = np.array([dim if isinstance(dim, int) else FREE for dim in shape], np.int64)
        if is_op(node, "Size"):
            dims = np.array(FREE if (dims == FREE).any() else dims.prod(), np.int64)
        else:
            start, end = node.attributes.get("start"), node.attributes.get("end")
            dims = dims[start and start.as_int() : end and end.as_int()]
        self._learn(node, [dims])

    def _visit_computation(self, node: ir.Node) -> None:
        arrays = [self._array(value) for value in node.inputs]
        if is_op(node, *MOVES):
            moved = node.inputs if is_op(node, "Concat") else node.inputs[:1]
            for index, value in enumerate(moved):
                if value in self._partly:
                    arrays[index] = self._partly[value]
        unknown = any(
            value is not None and array is None
            for value, array in zip(node.inputs, arrays, strict=True)
        )
        if unknown or not self._fits(node, output_bytes(node, arrays, self._opset) or 0):
            return
        outputs = evaluate(node, arrays, self._opset)
        if isinstance(outputs, str):
            self.refusals.append(outputs)
        elif all(map(self._agrees, node.outputs, outputs)):
            self._learn(node, outputs)

    def _array(self, value: ir.Value | None) -> np.ndarray | None:
        return self._known[value] if value in self._known else constant(value)

    def _agrees(self, value: ir.Value, array: np.ndarray) -> bool:
        """Whether an output is what shape inference promised to the nodes that follow."""
        dtype, shape = self._inferred.dtype(value), self._inferred.shape(value)
        same_shape = shape is None or (
            len(shape) == array.ndim
            and all(
                not isinstance(want, int) or want == have
                for want, have in zip(shape, array.shape, strict=True)
            )
        )
        return same_shape and (dtype is None or dtype == ir.DataType.from_numpy(array.dtype))

    def _learn(self, node: ir.Node, arrays: Sequence[np.ndarray]) -> None:
        if any(array.dtype == np.int64 and (array == FREE).any() for array in arrays):
            self._partly.update(zip(node.outputs, arrays, strict=True))
        elif self._fits(node, sum(array.nbytes for array in arrays)):
            self._fold(node, arrays)

    def _fold(self, node: ir.Node, arrays: Sequence[np.ndarray]) -> None:
        if not is_op(node, "Constant"):
            size = sum(array.nbytes for array in arrays)
            self.growth += max(0, size - self._freed_bytes(node))
        self._known.update(zip(node.outputs, arrays, strict=True))
        self._folded.append(node)

    def _fits(self, node: ir.Node, size: float) -> bool:
        grows = size - self._freed_bytes(node)
        if grows > self._max_bytes:
            told = f"{grows} bytes" if math.isfinite(grows) else "nobody knows how many bytes"
            self.refusals.append(
                f"{node.op_type} '{node.name}' would grow by {told}; max_bytes is {self._max_bytes}"
            )
        return grows <= self._max_bytes

    def _freed_bytes(self, node: ir.Node) -> int:
        """The bytes of the constants that only ``node`` reads."""
        arrays = [
            self._array(value)
            for value in dict.fromkeys(node.inputs)
            if value is not None
            and not value.is_graph_output()
            and all(user is node for user, _ in value.uses())
        ]
        return sum(array.nbytes for array in arrays if array is not None)
