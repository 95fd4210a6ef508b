"""A graph that reduces its own activations: to bounds, moments and a random sample.

It hands out nothing larger, so memory does not depend on how many activations are watched.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpress.model import Model
from onnxpress.quantization import constant_weight, linear_refusal
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, is_op, opset

MOST_VALUES, MOST_ROWS = 1 << 14, 64
"""The most values and rows of one activation that are sampled from one batch."""
REDUCTION_OPSET = 18
"""The first opset whose reductions take their axes as an input."""
OPSET = 11
"""The first opset with all that the reduction needs; of older models whole activations are read."""
SEQUENCES = (
    "Optional",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
)
"""What makes lists of tensors; onnx-ir's shape inference takes each for one tensor."""


class Taps:
    """A clone of a model that hands out what ``Observed``, ``Channels`` and ``Moments`` keep.

    ``start`` is an input more: where in each activation sampling starts. ``values``, ``rows`` and
    ``channels`` map the name of an activation to those of the outputs that tell of it. What two
    linear operators read in different ways has no ``channels``.
    """

    def __init__(self, model: Model, *, with_rows: bool, with_channels: bool) -> None:
        self.model = model.clone()
        passes.ShapeInferencePass(check_type=False, strict_mode=False)(self.model.ir)
        self._graph, self._names = self.model.ir.graph, Names(self.model.ir)
        self.values: dict[str, list[str]] = {}
        self.rows: dict[str, list[str]] = {}
        self.channels: dict[str, list[str]] = {}
        self.start = ""
        floats = self._floats()
        if opset(self.model.ir) < OPSET:
            for value in floats:
                self.values[str(value.name)] = [self._whole(value)]
            return
        read = self._read()
        self._start = ir.Value(
            name=self._names.fresh("sampling_start"),
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([1]),
        )
        self.start = str(self._start.name)
        self._graph.inputs.append(self._start)
        self._known: dict[tuple[int, ...], ir.Value] = {}
        for value in floats:
            self.values[str(value.name)] = self._reduced(value)
        for value, ways in read.items():
            for rank, width in ways:
                if with_rows and rank == 2:
                    self.rows[str(value.name)] = self._rows(value, width)
                if with_channels and len(ways) == 1:
                    self.channels[str(value.name)] = self._moments(value, rank, width)

    def _floats(self) -> list[ir.Value]:
        """The float activations of the main graph: inputs, and all that its nodes compute."""
        shapes = Shapes(self.model.ir)
        found = [value for value in self._graph.inputs if not value.is_initializer()]
        for node in self._graph:
            for value in node.outputs:
                if is_op(node, *SEQUENCES):
                    value.type = value.shape = None
                elif value.type is None:  # behind operators that onnx does not know
                    dtype = shapes.dtype(value)
                    value.type = None if dtype is None else ir.TensorType(dtype)
                if value.uses() or value.is_graph_output():
                    found.append(value)
        return [
            value
            for value in found
            if value.dtype == ir.DataType.FLOAT and isinstance(value.type, ir.TensorType)
        ]

    def _read(self) -> dict[ir.Value, set[tuple[int, int]]]:
        """What linear operators with constant weights read, and as what: rank and channels.

        A convolution's channels are axis 1; a product reads rows, of rank 2, whatever the rank is.
        """
        found: dict[ir.Value, set[tuple[int, int]]] = {}
        for node in self._graph:
            weight = constant_weight(node)
            if weight is None or linear_refusal(node, weight):
                continue
            turned = is_op(node, "Gemm") and bool(node.attributes.get_int("transB", 0))
            groups = node.attributes.get_int("group", 1) if is_op(node, "Conv") else 1
            place = 1 if turned or is_op(node, "Conv") else 0
            source = node.inputs[0]
            assert source is not None
            found.setdefault(source, set()).add((weight.ndim, weight.shape[place] * groups))
        return found

    def _whole(self, value: ir.Value) -> str:
        if not (value.is_graph_output() or value.is_graph_input()):
            self._graph.outputs.append(value)
            return str(value.name)
        return self._output(self._node("Identity", [value]), ir.DataType.FLOAT)

    def _reduced(self, value: ir.Value) -> list[str]:
        """Its least and largest value, every step-th value from a random one on, how many are."""
        flat = self._node("Reshape", [value, self._integer(-1)])
        size = self._node("Shape", [flat])
        # An odd step walks through all columns of a tensor whose sizes are powers of 2.
        half = self._node("Div", [size, self._integer(2 * MOST_VALUES)])
        step = self._node("Add", [self._node("Mul", [half, self._integer(2)]), self._integer(1)])
        sample = self._strided(flat, step)
        bounds = [self._node(op, [value], {"keepdims": 0}) for op in ("ReduceMin", "ReduceMax")]
        told = [(bound, ir.DataType.FLOAT) for bound in (*bounds, sample)]
        return [self._output(*each) for each in (*told, (size, ir.DataType.INT64))]

    def _rows(self, value: ir.Value, width: int) -> list[str]:
        """Each column's least and largest value, and some rows."""
        shape = self._integer(-1, width)
        matrix = self._node("Reshape", [value, shape])
        count = self._node(
            "Slice", [self._node("Shape", [matrix]), self._integer(0), self._integer(1)]
        )
        step = self._node(
            "Add", [self._node("Div", [count, self._integer(MOST_ROWS)]), self._integer(1)]
        )
        low, high = (self._along(op, matrix, 0) for op in ("ReduceMin", "ReduceMax"))
        return [
            self._output(each, ir.DataType.FLOAT)
            for each in (low, high, self._strided(matrix, step))
        ]

    def _moments(self, value: ir.Value, rank: int, channels: int) -> list[str]:
        """Least, largest and mean value and mean square of each channel, and how many values."""
        if rank == 2:
            value = self._node("Reshape", [value, self._integer(-1, channels)])
        axes = [axis for axis in range(rank) if axis != 1]
        bounds = [self._along(op, value, *axes) for op in ("ReduceMin", "ReduceMax", "ReduceMean")]
        square = self._along("ReduceMean", self._node("Mul", [value, value]), *axes)
        size = self._output(self._node("Size", [value]), ir.DataType.INT64)
        return [*(self._output(each, ir.DataType.FLOAT) for each in (*bounds, square)), size]

    def _along(self, op: str, value: ir.Value, *axes: int) -> ir.Value:
        """``value`` reduced over ``axes``, which go."""
        if opset(self.model.ir) < REDUCTION_OPSET:
            return self._node(op, [value], {"axes": list(axes), "keepdims": 0})
        return self._node(op, [value, self._integer(*axes)], {"keepdims": 0})

    def _strided(self, value: ir.Value, step: ir.Value) -> ir.Value:
        start = self._node("Mod", [self._start, step])
        end, axis = self._integer(np.iinfo(np.int64).max), self._integer(0)
        return self._node("Slice", [value, start, end, axis, step])

    def _integer(self, *numbers: int) -> ir.Value:
        if numbers not in self._known:
            name = self._names.fresh("sampling_constant")
            self._known[numbers] = add_initializer(
                self._graph, name, ir.tensor(np.array(numbers, np.int64), name=name)
            )
        return self._known[numbers]

    def _node(
        self, op: str, inputs: list[ir.Value], attributes: dict[str, object] | None = None
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes or {})  # type: ignore[arg-type]  # ints and lists
        output = node.outputs[0]
        output.name = self._names.fresh(f"sampling_{op}")
        self._graph.append(node)
        return output

    def _output(self, value: ir.Value, dtype: ir.DataType) -> str:
        value.type = ir.TensorType(dtype)
        self._graph.outputs.append(value)
        return str(value.name)
