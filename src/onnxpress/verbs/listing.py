"""A model as text to read: a line for each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.shapes import Shapes
from onnxpress.values import constant_tensor
from onnxpress.verbs.layers import operator

INDENT = "  "
FEW = 8
"""A constant of at most so many numbers is told, of others the type and shape."""
LONGEST = 60
"""Strings in attributes are cut here."""


def listing(model: Model) -> Iterator[str]:
    """``y: float32[batch, 8] = Gemm(x, w: float32[8, 4]) {transB=1}``, node by node.

    Comments (``#``) name the module of the nodes that follow. Graphs inside a node stand below it,
    indented; model-local functions come last. Sizes are formulas of the free dimensions.
    """
    yield from _Listing(model).lines()


class _Listing:
    def __init__(self, model: Model) -> None:
        self._model, self._shapes = model, Shapes(model.ir)

    def lines(self) -> Iterator[str]:
        graph = self._model.ir.graph
        opsets = ", ".join(
            f"{domain or 'ai.onnx'} {version}"
            for domain, version in self._model.ir.opset_imports.items()
        )
        name = _plain(graph.name or "without a name")
        yield f"# graph {name}: {opsets}, IR {self._model.ir.ir_version}"
        yield f"# {self._weights(graph)}"
        for value in graph.inputs:
            if value.name not in graph.initializers:
                yield f"input {self._typed(value)}"
        yield from self._nodes(graph, "")
        for value in graph.outputs:
            yield f"output {self._typed(value)}"
        for function in self._model.ir.functions.values():
            given = ", ".join(_plain(value.name) for value in function.inputs)
            yield ""
            yield f"function {_plain(function.domain)}::{_plain(function.name)}({given})"
            yield from self._nodes(function, INDENT)
            for value in function.outputs:
                yield f"{INDENT}output {self._typed(value)}"

    def _weights(self, graph: ir.Graph) -> str:
        tensors = [v.const_value for v in graph.initializers.values() if v.const_value is not None]
        size = sum(tensor.nbytes for tensor in tensors)
        types = Counter(_type(tensor.dtype) for tensor in tensors).most_common()
        told = ", ".join(f"{count} {name}" for name, count in types)
        return f"{len(tensors)} initializers of {size / 1e6:.2f} MB{': ' if told else ''}{told}"

    def _nodes(self, nodes: ir.Graph | ir.Function, indent: str) -> Iterator[str]:
        module = ""
        for node in nodes:
            found = module_of(node)
            if found != module:
                yield f"{indent}# {_plain(found) or '(outermost module)'}"
                module = found
            yield indent + self._node(node)
            for attribute in node.attributes.values():
                yield from self._inner(attribute, indent + INDENT)

    def _node(self, node: ir.Node) -> str:
        made = ", ".join(self._typed(value) if value.name else "_" for value in node.outputs)
        given = ", ".join(map(self._given, node.inputs))
        told = [
            f"{_plain(name)}={_attribute(attribute)}"
            for name, attribute in node.attributes.items()
            if attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        ]
        extra = f" {{{', '.join(told)}}}" if told else ""
        return f"{made}{' = ' if made else ''}{_plain(operator(node))}({given}){extra}"

    def _inner(self, attribute: ir.Attr, indent: str) -> Iterator[str]:
        if attribute.is_ref():
            return
        one = attribute.type == ir.AttributeType.GRAPH
        many = attribute.type == ir.AttributeType.GRAPHS
        graphs = [attribute.as_graph()] if one else list(attribute.as_graphs()) if many else []
        for graph in graphs:
            given = ", ".join(self._typed(value) for value in graph.inputs)
            yield f"{indent}{_plain(attribute.name)}({given})"
            yield from self._nodes(graph, indent + INDENT)
            for value in graph.outputs:
                yield f"{indent}{INDENT}output {self._typed(value)}"

    def _given(self, value: ir.Value | None) -> str:
        """An input: its name, with its type where it is a weight, or the numbers of a small one."""
        if value is None:
            return "_"
        tensor = constant_tensor(value)
        if tensor is None:
            return _plain(value.name)
        small = tensor.size <= FEW and tensor.dtype != ir.DataType.STRING
        return _tensor(tensor) if small else f"{_plain(value.name)}: {_tensor(tensor)}"

    def _typed(self, value: ir.Value) -> str:
        dtype, shape = self._shapes.dtype(value), self._shapes.shape(value)
        if dtype is None:
            kind = value.type
            name = "?" if kind is None else type(kind).__name__.removesuffix("Type").lower()
        else:
            name = _type(dtype)
        dims = "…" if shape is None else ", ".join(map(str, shape))
        return f"{_plain(value.name)}: {name}[{_plain(dims)}]"


def _attribute(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{_plain(attribute.ref_attr_name)}"
    value = attribute.value
    if isinstance(value, ir.TensorProtocol):
        return _tensor(value)
    if attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
        return _sequence(value)
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return f'"{_plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")}"'


def _tensor(tensor: ir.TensorProtocol) -> str:
    """The numbers of a small one, of others the type and shape."""
    if tensor.size <= FEW and tensor.dtype != ir.DataType.STRING:
        return _numbers(tensor.numpy())
    return f"{_type(tensor.dtype)}[{', '.join(map(str, tensor.shape.numpy()))}]"


def _type(dtype: ir.DataType) -> str:
    """As NumPy calls it."""
    if dtype == ir.DataType.STRING:
        return "string"
    return "?" if dtype == ir.DataType.UNDEFINED else dtype.numpy().name


def _sequence(values: Sequence[float]) -> str:
    told = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    more = ", …" if len(told) > 2 * FEW else ""
    return f"[{', '.join(told[: 2 * FEW])}{more}]"


def _numbers(array: np.ndarray) -> str:
    numbers = array.reshape(-1).tolist()
    told = [f"{number:g}" if isinstance(number, float) else str(number) for number in numbers]
    return told[0] if array.ndim == 0 else f"[{', '.join(told)}]"


def _plain(text: str | None) -> str:
    """``text`` on one line, whatever is in it."""
    text = text or ""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
