"""The chosen nodes in half precision: constants narrowed, one Cast for each value at a border."""

from __future__ import annotations

import functools
import math

import numpy as np
import onnx_ir as ir

from onnxpress.modules import inherit
from onnxpress.passes._half_choice import Choice
from onnxpress.passes._half_slots import FLOAT, Half
from onnxpress.passes._half_values import MASKED, Numbers
from onnxpress.values import Names, add_initializer, constant_tensor, discard, drop_unused, is_op


class Writer:
    """Rewrites one model, whose graphs' inputs and outputs stay as they are unless told."""

    def __init__(self, model: ir.Model, choice: Choice, numbers: Numbers, half: Half) -> None:
        self._graph, self._names = model.graph, Names(model)
        self._choice, self._numbers, self._half = choice, numbers, half
        self._halves: set[ir.Value] = set()
        self._borders: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._narrowed: dict[tuple[ir.Value, float], ir.Value] = {}
        read = [node.inputs[index] for node in choice.slots for index in choice.slots[node].inputs]
        self._masks = {value for value in read if value is not None and numbers.is_mask(value)}

    def write(self, keep_io: bool) -> None:
        """Everything that was chosen; with ``keep_io`` False float inputs and outputs as well."""
        slots = self._choice.slots
        made = [node.outputs[index] for node in slots for index in slots[node].outputs]
        inputs = [] if keep_io else [value for value in self._graph.inputs if self._fits(value)]
        direct = [node for node in self._choice.wide if self._may_be_direct(node)]
        self._halves.update(made, inputs, (node.outputs[0] for node in direct))
        for node in (*slots, *direct):
            if is_op(node, "Cast") and node.attributes["to"].as_int() == FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", self._half.dtype.value)
        for value in self._halves:
            value.type = ir.TensorType(self._half.dtype)  # clones share the old one
        graphs = [self._graph, *self._graph.subgraphs()]
        for node in [node for graph in graphs for node in graph]:
            self._inputs(node)
        for graph in graphs:
            wanted = FLOAT if keep_io or graph is not self._graph else self._half.dtype
            for index, value in enumerate(graph.outputs):
                if value.producer() and value.dtype in (FLOAT, self._half.dtype):
                    self._output(graph, index, value, wanted)
        self._tidy()

    def _fits(self, value: ir.Value) -> bool:
        span = self._numbers.span(value)
        plain = value.dtype == FLOAT and not value.is_initializer()
        return plain and (span is None or span.most <= self._half.largest)

    def _may_be_direct(self, node: ir.Node) -> bool:
        """Whether ``node`` is a Cast to float32 of which all readers want a half."""
        if not is_op(node, "Cast") or node.attributes["to"].as_int() != FLOAT:
            return False
        value = node.outputs[0]
        uses = () if value.is_graph_output() or value in self._masks else value.uses()
        return bool(uses) and all(self._choice.reads_half(*use) for use in uses)

    def _inputs(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            half = self._choice.reads_half(node, index)
            if value is None or half == (value in self._halves):
                continue
            if half and constant_tensor(value) is not None:
                is_bound = is_op(node, "Clip") and index > 0
                node.replace_input_with(index, self._constant(value, is_bound))
            elif half:
                node.replace_input_with(index, self._border(value, self._half.dtype))
            elif not is_op(node, "Cast"):  # a Cast takes what there is
                node.replace_input_with(index, self._border(value, FLOAT))

    def _border(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """``value`` in the other type, right behind where it is made; one for all readers."""
        if (value, dtype) not in self._borders:
            producer, graph, nodes = value.producer(), value.graph, []
            source = value
            if value in self._masks and dtype != FLOAT:
                least = ir.tensor(np.array(MASKED, np.float32))
                floor = add_initializer(self._graph, self._names.fresh("masked"), least)
                nodes.append(ir.node("Max", [source, floor]))
                source = nodes[0].outputs[0]
                source.name = self._names.fresh(f"{value.name}_masked")
                source.type, source.shape = ir.TensorType(FLOAT), value.shape
            nodes.append(ir.node("Cast", [source], {"to": dtype.value}))
            new = nodes[-1].outputs[0]
            new.name = self._names.fresh(f"{value.name}_{dtype.name.lower()}")
            new.type, new.shape = ir.TensorType(dtype), value.shape
            if producer is not None:
                producer.append([inherit(node, producer) for node in nodes])
            else:
                assert graph is not None
                graph[0].prepend(nodes)
            self._borders[value, dtype] = new
        return self._borders[value, dtype]

    def _output(self, graph: ir.Graph, index: int, value: ir.Value, wanted: ir.DataType) -> None:
        if value.dtype == wanted:
            return
        new = self._border(value, wanted)
        if value.graph is graph and not new.is_graph_output():
            name, value.name = value.name, self._names.fresh(f"{value.name}_inner")
            new.name = name
        graph.outputs[index] = new

    def _constant(self, value: ir.Value, is_bound: bool) -> ir.Value:
        """The numbers in half precision, made one tensor at a time when they are written."""
        tensor, half = constant_tensor(value), self._half
        assert tensor is not None
        low = MASKED if value in self._masks else -half.largest if is_bound else -math.inf
        high = half.largest if is_bound else math.inf
        if (value, low) not in self._narrowed:
            producer = value.producer()
            graph = value.graph if producer is None else producer.graph
            assert isinstance(graph, ir.Graph)
            name = self._names.fresh(f"{value.name}_{half}")
            shape = ir.Shape(tensor.shape.numpy())
            made = functools.partial(_narrowed, tensor, half.dtype, low, high)
            lazy = ir.LazyTensor(made, half.dtype, shape, name=name)
            self._narrowed[value, low] = add_initializer(graph, name, lazy)
        return self._narrowed[value, low]

    def _tidy(self) -> None:
        """What only the wide form was for goes; its name goes on."""
        for (old, _), new in self._narrowed.items():
            producer, name = old.producer(), old.name
            if old.uses() or old.is_graph_output():
                continue
            if producer is not None:
                discard(producer)
            elif not drop_unused([old]):
                continue
            old.name = None
            new.name = name


def _narrowed(
    tensor: ir.TensorProtocol, dtype: ir.DataType, low: float, high: float
) -> ir.TensorProtocol:
    array = tensor.numpy()
    if low > -math.inf:
        bounded = np.clip(array, low, high)
        array = np.where(np.isfinite(array), bounded, array)
    return ir.tensor(array.astype(dtype.numpy()))
