"""What is known of a graph's values without running it: element types, shapes, small integers.

Sizes are polynomials of the free dimensions (``dims``), so that ``Reshape``, ``Concat`` and the
arithmetic that exporters write around them say as much as constants would. What an operator
makes of sizes is in ``shape_rules``, of the integers that shapes are computed with in
``shape_data``; for all other operators onnx's own inference is asked, node by node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from onnxpress.dims import Dim, Size
from onnxpress.shape_data import DATA_RULES
from onnxpress.shape_rules import CONTRIB_RULES, SHAPE_RULES, TYPED_BY, UNDECLARED, Shape
from onnxpress.values import STANDARD, constant, is_op, opset, subgraphs

CONTRIB = "com.microsoft"
MOST_ELEMENTS = 64
"""Integer tensors of more elements are no shapes, and are not followed."""
UNINFERRED = (
    onnx.defs.SchemaError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    RuntimeError,
    ValueError,
    TypeError,
)
"""What onnx raises of operators and attributes that it does not know."""
WHOLE = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


class Shapes:
    """Of one model, which stays as it is. ``learn`` tells of nodes that are new since.

    ``sizes`` are those of free dimensions, ``known`` the shapes of inputs, where one may say more
    than the model does.
    """

    def __init__(
        self,
        model: ir.Model,
        sizes: Mapping[str, int] | None = None,
        known: Mapping[ir.Value, Shape] | None = None,
    ) -> None:
        self._opset = opset(model)
        self._symbols: dict[str, Size] = dict(sizes or {})
        self._count = 0
        self._types: dict[ir.Value, ir.DataType | None] = {}
        self._shapes: dict[ir.Value, Shape | None] = dict(known or {})
        self._elements: dict[ir.Value, np.ndarray | None] = {}
        self._graph(model.graph)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """The element type of a tensor; None where unknown, and for sequences and optionals."""
        if value is None:
            return None
        if value not in self._types:
            self._declared(value)
        return self._types[value]

    def shape(self, value: ir.Value | None) -> Shape | None:
        """None where the rank is unknown."""
        if value is None:
            return None
        if value not in self._shapes:
            self._declared(value)
        return self._shapes[value]

    def elements(self, value: ir.Value | None) -> np.ndarray | None:
        """The numbers of an integer or Boolean tensor, an array of sizes; None where unknown."""
        if value is None:
            return None
        if value not in self._elements:
            found = None
            tensor = value.const_value if value.is_initializer() else None
            if tensor is None or (tensor.size <= MOST_ELEMENTS and tensor.dtype in WHOLE):
                found = constant(value)
            whole = found is not None and found.size <= MOST_ELEMENTS and found.dtype.kind in "ib"
            self._elements[value] = found.astype(object) if found is not None and whole else None
        return self._elements[value]

    def fresh(self) -> Dim:
        """A size that nothing is known of."""
        self._count += 1
        return Dim.named(f"?{self._count}")

    def learn(self, node: ir.Node) -> None:
        """Follow ``node``, whose inputs are known."""
        for value in node.outputs:
            self._types.pop(value, None), self._shapes.pop(value, None)
        graphs = list(subgraphs(node))
        for graph in graphs:
            self._graph(graph)
        if graphs:
            self._by_graphs(node, graphs)
            return
        own = node.domain == CONTRIB or is_op(node, *UNDECLARED)
        if own and node.op_type in CONTRIB_RULES:
            found = CONTRIB_RULES[node.op_type](self, node)
            typed_by = node.inputs[TYPED_BY.get(node.op_type, 0)]
            for value in node.outputs:
                self._shapes[value], self._types[value] = found, self.dtype(typed_by)
        if node.domain in STANDARD:
            self._by_onnx(node)
            rule = SHAPE_RULES.get(node.op_type)
            found = rule(self, node) if rule is not None else None
            if found is not None:
                self._shapes[node.outputs[0]] = found
            data = DATA_RULES.get(node.op_type)
            if data is not None:
                elements, dtype = data(self, node), self.dtype(node.outputs[0])
                kept = elements is not None and _holds(dtype, elements)
                self._elements[node.outputs[0]] = elements if kept else None

    def _graph(self, graph: ir.Graph) -> None:
        for node in graph:
            self.learn(node)

    def _declared(self, value: ir.Value) -> None:
        """What the file says; a constant's own shape."""
        known = value.const_value if value.const_value is not None else None
        if known is None:
            kind = value.type
            self._types[value] = kind.dtype if isinstance(kind, ir.TensorType) else None
            shape = value.shape if isinstance(kind, ir.TensorType) else None
            if value not in self._shapes:
                self._shapes[value] = None if shape is None else tuple(map(self._size, shape))
        else:
            self._types[value] = known.dtype
            self._shapes[value] = tuple(known.shape.numpy())

    def _size(self, dim: int | ir.SymbolicDim) -> Size:
        if isinstance(dim, int):
            return dim
        return self.fresh() if dim.value is None else self._named(dim.value)

    def _named(self, name: str) -> Size:
        return self._symbols.setdefault(name, Dim.named(name))

    def _by_onnx(self, node: ir.Node) -> None:
        """The types, and what onnx's inference of one node tells of the shapes."""
        types, data = {}, {}
        proto = onnx.NodeProto(op_type=node.op_type, domain="")
        for index, value in enumerate(node.inputs):
            proto.input.append("" if value is None else f"i{index}")
            if value is None:
                continue
            types[f"i{index}"] = self._type_proto(value)
            small = self._small(value)
            if small is not None:
                data[f"i{index}"] = onnx.numpy_helper.from_array(small)
        proto.output.extend(f"o{i}" if value.name else "" for i, value in enumerate(node.outputs))
        try:
            proto.attribute.extend(
                ir.serde.serialize_attribute(attribute) for attribute in node.attributes.values()
            )
            schema = onnx.defs.get_schema(node.op_type, self._opset)
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data)
        except UNINFERRED:
            return
        for index, value in enumerate(node.outputs):
            kind = found.get(f"o{index}")
            if kind is None or not kind.HasField("tensor_type"):
                continue
            tensor = kind.tensor_type
            if tensor.elem_type:
                self._types[value] = ir.DataType(tensor.elem_type)
            if tensor.HasField("shape"):
                self._shapes[value] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else
                    self._symbols[dim.dim_param] if dim.dim_param in self._symbols else self.fresh()
                    for dim in tensor.shape.dim
                )  # fmt: skip

    def _by_graphs(self, node: ir.Node, graphs: Sequence[ir.Graph]) -> None:
        """What both branches of an If agree on; of loops, their bodies' types."""
        if is_op(node, "Loop", "Scan"):
            made = graphs[0].outputs[is_op(node, "Loop") :]  # not whether there is another turn
            for value, result in zip(node.outputs, made, strict=True):
                self._declared(value)
                if self.dtype(result) is not None:
                    self._types[value] = self.dtype(result)
        if not is_op(node, "If"):
            return
        for value, *results in zip(node.outputs, *(g.outputs for g in graphs), strict=True):
            types = {self.dtype(result) for result in results}
            shapes = [self.shape(result) for result in results]
            if len(types) == 1:
                self._types[value] = types.pop()
            first = shapes[0]
            if first is None or any(one is None or len(one) != len(first) for one in shapes):
                self._shapes[value] = None
                continue
            columns = zip(*(one for one in shapes if one is not None), strict=True)
            self._shapes[value] = tuple(
                sizes[0] if len(set(sizes)) == 1 else self.fresh() for sizes in columns
            )

    def _small(self, value: ir.Value) -> np.ndarray | None:
        """The few numbers, at most a row, that may be sizes or places."""
        shape, dtype = self.shape(value), self.dtype(value)
        few = (
            dtype in (*WHOLE, ir.DataType.FLOAT)
            and shape is not None
            and len(shape) <= 1
            and all(isinstance(dim, int) and dim <= MOST_ELEMENTS for dim in shape)
        )
        if not few:
            return None
        found, computed = constant(value), self.elements(value)
        if found is not None or computed is None or dtype is None:
            return found
        numbers = all(isinstance(size, int) for size in computed.flat)
        return computed.astype(dtype.numpy()) if numbers else None

    def _type_proto(self, value: ir.Value) -> onnx.TypeProto:
        dtype, shape = self.dtype(value), self.shape(value)
        if dtype is None:
            kind = value.type
            return ir.serde.serialize_type(kind) if kind is not None else onnx.TypeProto()
        dims = None if shape is None else [self._param(dim) for dim in shape]
        return onnx.helper.make_tensor_type_proto(int(dtype), dims)

    def _param(self, size: Size) -> int | str:
        if isinstance(size, int):
            return size
        name = str(size)
        self._symbols.setdefault(name, size)
        return name


def _holds(dtype: ir.DataType | None, elements: np.ndarray) -> bool:
    """Whether they are few, and their numbers are of the type: it would turn others round."""
    limit = 1 << (31 if dtype == ir.DataType.INT32 else 63)
    return elements.size <= MOST_ELEMENTS and all(
        -limit <= size < limit for size in elements.flat if isinstance(size, int)
    )
