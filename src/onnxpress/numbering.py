"""Value numbering: values that are computed alike get the same hash, whatever they are called.

Click, "Global Code Motion / Global Value Numbering" (PLDI 1995), on a graph: the hash of a value
is that of its operator, its attributes and its inputs' hashes; constants count by content.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping

import onnx.defs
import onnx.helper
import onnx_ir as ir

from onnxpress.matching import COMMUTATIVE
from onnxpress.redundancy import NoOps
from onnxpress.values import STANDARD, constant_tensor, is_op, subgraphs

WINDOW = {"dilations": 1, "pads": 0, "strides": 1}
"""Attributes of convolutions and pooling → what each of their numbers is by default."""


class Copies:
    """Knows which values only repeat others: what ``Identity`` gives, ``x · 1``, and so on.

    Of several models, one's no-op that the others have too, by name and operator, is a node like
    others: it is compared, not seen through.
    """

    def __init__(self, *models: ir.Model) -> None:
        self._roots: dict[ir.Value, ir.Value] = {}
        everywhere = set[tuple[str | None, str]]()
        if len(models) > 1:
            everywhere.update(_named(models[0]).intersection(*map(_named, models[1:])))
        for model in models:
            no_ops = NoOps(model)
            for node in ir.traversal.RecursiveGraphIterator(model.graph):
                found = no_ops.find(node)
                if found is not None and (node.outputs[0].name, node.op_type) not in everywhere:
                    self._roots[node.outputs[0]] = self.root(found[0])

    def root(self, value: ir.Value) -> ir.Value:
        """What ``value`` repeats; itself where it is new."""
        return self._roots.get(value, value)

    def is_copy(self, node: ir.Node) -> bool:
        """Whether the node is one of these no-ops."""
        return node.outputs[0] in self._roots

    def is_constant(self, value: ir.Value) -> bool:
        """Whether it is an initializer, what a ``Constant`` node gives, or repeats one."""
        return constant_tensor(self.root(value)) is not None

    def readers(self, value: ir.Value) -> Iterator[ir.Node]:
        """The nodes that read ``value`` or what repeats it."""
        for user, _ in value.uses():
            yield user
            if user.outputs[0] in self._roots and self.root(user.outputs[0]) is self.root(value):
                yield from self.readers(user.outputs[0])


def _named(model: ir.Model) -> set[tuple[str | None, str]]:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return {(value.name, node.op_type) for node in nodes for value in node.outputs[:1]}


class Hashes:
    """A hash of each value: of its operator, attributes and inputs, down to the graph's inputs."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._values: dict[ir.Value, bytes] = {}
        self._nodes: dict[ir.Node, bytes] = {}
        self._depth = 0
        self._tensors: dict[int, tuple[ir.TensorProtocol, bytes]] = {}

    def know(self, value: ir.Value, key: bytes) -> None:
        self._values[value] = key

    def of(self, value: ir.Value) -> bytes:
        """Of an input: its own, unless ``know`` told another."""
        if value not in self._values:
            tensor, node = constant_tensor(value), value.producer()
            if tensor is not None:
                key = self.tensor(tensor)
            elif self._copies.root(value) is not value:
                key = self.of(self._copies.root(value))
            elif node is not None:
                key = self.node(node) + bytes([value.index() or 0])
            else:
                key = _digest(f"input {len(self._values)} {id(value)}")
            self._values[value] = key
        return self._values[value]

    def node(self, node: ir.Node) -> bytes:
        """Graphs are deep, so inputs' hashes are made first, in the order of the graph."""
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self._nodes:
                stack.pop()
                continue
            waiting = [
                made
                for value in _reads(top)
                if value not in self._values
                if (made := value.producer()) is not None
                and made not in self._nodes
                and constant_tensor(value) is None
                and made.graph is top.graph
            ]
            if waiting:
                stack += waiting
                continue
            self._nodes[top] = self._made(top)
            stack.pop()
        return self._nodes[node]

    def _made(self, node: ir.Node) -> bytes:
        inputs = [b"" if value is None else self.of(value) for value in node.inputs]
        if is_op(node, *COMMUTATIVE):
            inputs.sort()
        head = f"{domain_of(node)}::{node.op_type} {len(node.outputs)}"
        return _digest(head, self.attributes(node), *inputs)

    def attributes(self, node: ir.Node) -> bytes:
        """Of all attributes that say more than their default."""
        told = attributes(node)
        return _digest(*(self.attribute(told[name]) for name in sorted(told)))

    def attribute(self, attribute: ir.Attr) -> bytes:
        head = f"{attribute.name}:{attribute.type}"
        if attribute.is_ref():
            return _digest(head, str(attribute.ref_attr_name))
        if attribute.type == ir.AttributeType.TENSOR:
            return _digest(head, self.tensor(attribute.as_tensor()))
        if attribute.type == ir.AttributeType.GRAPH:
            return _digest(head, self.graph(attribute.as_graph()))
        if attribute.type == ir.AttributeType.GRAPHS:
            return _digest(head, *(self.graph(graph) for graph in attribute.as_graphs()))
        return _digest(head, repr(attribute.value))

    def graph(self, graph: ir.Graph) -> bytes:
        """Of a branch or a body: its inputs by place, what it reads outside by its hash."""
        self._depth += 1
        for index, value in enumerate(graph.inputs):
            self._values.setdefault(value, _digest(f"argument {index} at depth {self._depth}"))
        key = _digest(*(self.of(value) for value in graph.outputs))
        self._depth -= 1
        return key

    def tensor(self, tensor: ir.TensorProtocol) -> bytes:
        """Of type, shape and content; read once for each tensor that is shared."""
        if id(tensor) not in self._tensors:
            head = f"{tensor.dtype} {tuple(tensor.shape)}"
            if tensor.dtype == ir.DataType.STRING:
                content = repr(tensor.numpy().tolist()).encode()
            else:
                content = tensor.tobytes()
            self._tensors[id(tensor)] = tensor, _digest(head, content)
        return self._tensors[id(tensor)][1]


def attributes(node: ir.Node) -> dict[str, ir.Attr]:
    """The attributes that say more than their operator's default."""
    defaults = _defaults(domain_of(node), node.op_type)
    return {
        name: attribute
        for name, attribute in node.attributes.items()
        if attribute.is_ref() or attribute.value != defaults.get(name, _nothing(name, attribute))
    }


@functools.cache
def _defaults(domain: str, op: str) -> Mapping[str, object]:
    if not onnx.defs.has(op, domain):
        return {}
    schema = onnx.defs.get_schema(op, domain)
    known = {
        name: onnx.helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in known.items()}


def _nothing(name: str, attribute: ir.Attr) -> object:
    """What a window's attribute is along each axis where it is left out."""
    if name not in WINDOW or attribute.type != ir.AttributeType.INTS:
        return None
    return type(attribute.value)([WINDOW[name]] * len(attribute.value))


def _digest(*parts: str | bytes) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.digest()


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """What a node and the graphs that it carries read."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        for inner in graph:
            yield from (value for value in _reads(inner) if value.graph is not graph)


def domain_of(node: ir.Node) -> str:
    """The operator's domain; ONNX's own has one spelling."""
    return "" if node.domain in STANDARD else node.domain
