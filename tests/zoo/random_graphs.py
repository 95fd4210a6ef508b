"""Random small graphs; every one is valid for all sizes of its free dimensions.

Sizes are products: ``(6, ("N",))`` is 6·N. The steps that a graph is made of are in
``random_steps`` and ``random_layers``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxpress.model import Model

Dim = tuple[int, tuple[str, ...]]
Dims = tuple[Dim, ...]
SIZES = ({"N": 2, "M": 3}, {"N": 1, "M": 1})
"""Of the free dimensions; ones broadcast."""
SHAPES: tuple[Dims, ...] = (
    ((1, ("N",)), (4, ())),
    ((1, ("N",)), (1, ("M",)), (4, ())),
    ((2, ()), (3, ()), (4, ())),
    ((1, ("N",)), (4, ()), (5, ()), (5, ())),
    ((1, ("N",)), (1, ("M",)), (2, ()), (6, ())),
)
ONE: Dim = (1, ())

Step = Callable[["RandomGraph"], None]
"""It appends a node or a few."""


def static(*sizes: int) -> Dims:
    return tuple((size, ()) for size in sizes)


def times(dims: Sequence[Dim]) -> Dim:
    symbols = tuple(sorted(symbol for _, names in dims for symbol in names))
    return math.prod(size for size, _ in dims), symbols


class Value:
    """A float tensor of the graph."""

    def __init__(self, name: str, dims: Dims) -> None:
        self.name, self.dims = name, dims

    def sizes(self) -> list[int] | None:
        """None where one is free."""
        return None if any(names for _, names in self.dims) else [size for size, _ in self.dims]


class RandomGraph:
    """``nodes`` steps, each of an operator and operands drawn by ``chance``."""

    def __init__(
        self,
        chance: random.Random,
        steps: Sequence[Step],
        nodes: int,
        opset: int = 18,
        kind: int = TensorProto.FLOAT,
    ) -> None:
        self.chance, self.steps, self.opset = chance, steps, opset
        self.rng = np.random.default_rng(chance.randrange(1 << 16))
        self.kind, self.dtype = kind, np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        self.count = 0
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs = [
            Value(f"x{i}", chance.choice(SHAPES)) for i in range(chance.choice((1, 1, 2)))
        ]
        self.values = list(self.inputs)
        for _ in range(nodes):
            self.step()
        self.outputs = self._outputs()

    def _outputs(self) -> list[Value]:
        """What nothing reads, and a few others; a few of these twice, or an input as it is."""
        chance = self.chance
        read = {name for node in self.nodes for name in _read(node)}
        made = [value for value in self.values if value not in self.inputs]
        ends = [value for value in made if value.name not in read]
        others = [value for value in made if value.name in read and chance.random() < 0.1]
        return (ends + others) or made[-1:]

    def model(self) -> Model:
        """Outputs have ranks and no sizes, so that these must be found; no value in between has."""
        inputs = [
            helper.make_tensor_value_info(
                value.name, self.kind, [names[0] if names else n for n, names in value.dims]
            )
            for value in self.inputs
        ]
        outputs = [
            helper.make_tensor_value_info(
                value.name, self.kind, [f"{value.name}_{i}" for i in range(len(value.dims))]
            )
            for value in self.outputs
        ]
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return Model(ir.from_proto(proto))

    def feeds(self, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        shapes = {
            value.name: [sizes[names[0]] if names else n for n, names in value.dims]
            for value in self.inputs
        }
        return {
            name: rng.standard_normal(shape).astype(self.dtype) for name, shape in shapes.items()
        }

    # Parts of steps.

    def step(self) -> None:
        self.chance.choice(self.steps)(self)

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def any(self, fits: Callable[[Value], bool] = lambda _: True) -> Value | None:
        """One of the values that fit, a late one rather than an early one."""
        found = [value for value in self.values if fits(value)]
        return (
            self.chance.choice(found[-4:] if self.chance.random() < 0.7 else found)
            if found
            else None
        )

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        if self.chance.random() < 0.2:
            tensor = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [self.fresh("k")], value=tensor))
            return str(self.nodes[-1].output[0])
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int) -> str:
        array = (self.rng.standard_normal(shape) * 0.5).astype(self.dtype)
        match self.chance.randrange(10):
            case 0:
                array = np.zeros(shape, self.dtype)
            case 1:
                array = np.ones(shape, self.dtype)
            case 2:
                array = np.full(shape, 0.5, self.dtype)
        return self.constant(array)

    def whole(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def raw(
        self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: object
    ) -> list[str]:
        names = [f"{self.fresh('v')}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def add(self, op: str, inputs: Sequence[str], dims: Dims, **attributes: object) -> Value:
        value = Value(self.raw(op, inputs, **attributes)[0], dims)
        self.values.append(value)
        return value

    def axes(
        self, op: str, data: str, axes: Sequence[int], dims: Dims, since: int, **more: int
    ) -> None:
        """``axes`` are an input ``since`` some opset, an attribute before."""
        if self.opset >= since:
            self.add(op, [data, self.whole(*axes)], dims, **more)
        else:
            self.add(op, [data], dims, axes=list(axes), **more)

    def sign(self, axis: int, rank: int) -> int:
        return axis if self.chance.random() < 0.5 else axis - rank


def _read(node: onnx.NodeProto) -> set[str]:
    """What it and the graphs that it carries read."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {
        *node.input,
        *(name for graph in graphs for child in graph.node for name in _read(child)),
    }


def broadcast(a: Dims, b: Dims) -> Dims | None:
    rank = max(len(a), len(b))
    pairs = zip((ONE,) * (rank - len(a)) + a, (ONE,) * (rank - len(b)) + b, strict=True)
    dims = []
    for one, other in pairs:
        if one != other and ONE not in (one, other):
            return None
        dims.append(other if one == ONE else one)
    return tuple(dims)
