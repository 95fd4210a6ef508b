"""Random small graphs out of the operators that passes touch; every one of them is valid.

Sizes are products: ``(6, ("N",))`` is 6·N. So a graph fits for all sizes of its free dimensions.
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
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
ONE: Dim = (1, ())


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
        self, chance: random.Random, nodes: int, opset: int = 18, kind: int = TensorProto.FLOAT
    ) -> None:
        self.chance, self.opset = chance, opset
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
            self.chance.choice(STEPS)(self)
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


# Steps: each appends a node or a few.


def unary(g: RandomGraph) -> None:
    x = g.any()
    op, attributes = g.chance.choice(
        [
            ("Relu", {}),
            ("Sigmoid", {}),
            ("Tanh", {}),
            ("Neg", {}),
            ("Neg", {}),
            ("Abs", {}),
            ("Identity", {}),
            ("Erf", {}),
            ("LeakyRelu", {"alpha": 0.1}),
            ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
            ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
            ("Elu", {}),
            ("Softplus", {}),
            ("Dropout", {}),
            ("Cast", {"to": g.kind}),
        ]
    )
    g.add(op, [x.name], x.dims, **attributes)


def casts(g: RandomGraph) -> None:
    x = g.any()
    kind = g.chance.choice(
        [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL]
    )
    (half,) = g.raw("Cast", [x.name], to=kind)
    g.add("Cast", [half], x.dims, to=g.kind)


def clip(g: RandomGraph) -> None:
    x = g.any()
    low, high = (
        g.constant(np.array(n, g.dtype))
        for n in (g.chance.choice([-1, 0]), g.chance.choice([1, 6]))
    )
    inputs = g.chance.choice([[low, high], [low], ["", high], []])
    g.add("Clip", [x.name, *inputs], x.dims)


def with_constant(g: RandomGraph) -> None:
    x = g.any()
    rank = len(x.dims)
    shapes: list[list[int]] = [[], [1], [1] * rank, [1] * (rank + 1)]
    if rank and not x.dims[-1][1]:
        shapes += [[x.dims[-1][0]]] * 3
    if rank > 2 and not x.dims[1][1]:
        shapes += [[x.dims[1][0]] + [1] * (rank - 2), [1, x.dims[1][0]] + [1] * (rank - 2)]
    shape = g.chance.choice(shapes)
    dims = (ONE,) * max(0, len(shape) - rank) + x.dims
    op = g.chance.choice(["Add", "Mul", "Sub", "Div", "Add", "Mul", "Max", "Min", "Pow"])
    if op == "Pow":
        c = g.constant(np.array(g.chance.choice([1, 2, 3, 0]), g.dtype))
        g.add("Pow", [x.name, c], x.dims)
        return
    if op == "Div":
        c = g.constant(
            (self_sign(g) * (np.abs(g.rng.standard_normal(shape)) + 0.5)).astype(g.dtype)
        )
        g.add("Div", [x.name, c], dims)
        return
    pair = [x.name, g.weights(*shape)]
    g.add(op, pair if g.chance.random() < 0.6 else pair[::-1], dims)


def self_sign(g: RandomGraph) -> int:
    return g.chance.choice([1, -1])


def broadcast(a: Dims, b: Dims) -> Dims | None:
    rank = max(len(a), len(b))
    pairs = zip((ONE,) * (rank - len(a)) + a, (ONE,) * (rank - len(b)) + b, strict=True)
    dims = []
    for one, other in pairs:
        if one != other and ONE not in (one, other):
            return None
        dims.append(other if one == ONE else one)
    return tuple(dims)


def binary(g: RandomGraph) -> None:
    x = g.any()
    y = g.any(lambda value: broadcast(x.dims, value.dims) is not None)
    dims = broadcast(x.dims, y.dims)
    op = g.chance.choice(["Add", "Add", "Mul", "Sub", "Max", "Min"])
    g.add(op, [x.name, y.name], dims)


def where(g: RandomGraph) -> None:
    x = g.any()
    y = g.any(lambda value: broadcast(x.dims, value.dims) is not None)
    (test,) = g.raw(g.chance.choice(["Greater", "Less"]), [x.name, g.weights()])
    if g.chance.random() < 0.3:
        (test,) = g.raw("Not", [test])
    dims = broadcast(x.dims, y.dims)
    match g.chance.randrange(3):
        case 0:
            g.add("Where", [test, x.name, y.name], dims)
        case 1:
            g.add("Where", [test, y.name, g.weights()], dims)
        case _:
            g.add("Where", [test, g.weights(), x.name], x.dims)


def matmul(g: RandomGraph) -> None:
    x = g.any(
        lambda value: len(value.dims) >= 2 and not value.dims[-1][1] and value.dims[-1][0] < 40
    )
    if x is None:
        return
    inner = x.dims[-1][0]
    width = g.chance.choice([1, 3, 4, inner])
    y = g.add("MatMul", [x.name, g.weights(inner, width)], (*x.dims[:-1], (width, ())))
    if g.chance.random() < 0.6:
        pair = [y.name, g.weights(*g.chance.choice([[width], [1], [1, width]]))]
        g.add("Add", pair if g.chance.random() < 0.5 else pair[::-1], y.dims)


def matmul_both(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) >= 2)
    perm = [*range(len(x.dims) - 2), len(x.dims) - 1, len(x.dims) - 2]
    y = g.add("Transpose", [x.name], tuple(x.dims[i] for i in perm), perm=perm)
    g.add("MatMul", [x.name, y.name], (*x.dims[:-1], x.dims[-2]))


def gemm(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) == 2)
    if x is None:
        return
    flip = g.chance.random() < 0.3
    rows, inner = x.dims[::-1] if flip else x.dims
    if inner[1]:
        return
    width, turned = g.chance.choice([1, 3, 4]), g.chance.random() < 0.5
    weight = g.weights(*((width, inner[0]) if turned else (inner[0], width)))
    bias = g.chance.choice([[], [g.weights(width)], [g.weights()], [g.weights(1, width)]])
    g.add(
        "Gemm",
        [x.name, weight, *bias],
        (rows, (width, ())),
        transA=int(flip),
        transB=int(turned),
        alpha=g.chance.choice([1.0, 1.0, 0.5]),
        beta=g.chance.choice([1.0, 1.0, 2.0]),
    )


def picture(value: Value) -> bool:
    dims = value.dims
    return (
        len(dims) == 4
        and not any(names for _, names in dims[1:])
        and min(n for n, _ in dims[2:]) >= 3
        and dims[1][0] <= 24
    )


def conv(g: RandomGraph) -> None:
    x = g.any(picture)
    if x is None:
        return
    channels, sides = x.dims[1][0], [n for n, _ in x.dims[2:]]
    groups = g.chance.choice([1, 1, channels])
    out = groups * g.chance.choice([1, 2]) if groups > 1 else g.chance.choice([2, 4, channels])
    side, stride = g.chance.choice([1, 3]), g.chance.choice([1, 1, 2])
    pads = [g.chance.choice([0, side // 2]) for _ in range(4)]
    after = [(n + pads[i] + pads[i + 2] - side) // stride + 1 for i, n in enumerate(sides)]
    bias = g.chance.choice([[], [g.weights(out)]])
    y = g.add(
        "Conv",
        [x.name, g.weights(out, channels // groups, side, side), *bias],
        (x.dims[0], *static(out, *after)),
        group=groups,
        strides=[stride] * 2,
        pads=pads,
    )
    match g.chance.randrange(4):
        case 0:
            batch_norm_of(g, y)
        case 1:
            shape = g.chance.choice([[out, 1, 1], [1, out, 1, 1], [], [1, 1, 1]])
            g.add(g.chance.choice(["Add", "Mul", "Sub"]), [y.name, g.weights(*shape)], y.dims)


def conv_transpose(g: RandomGraph) -> None:
    x = g.any(picture)
    if x is None:
        return
    channels, out = x.dims[1][0], g.chance.choice([2, 3])
    bias = g.chance.choice([[], [g.weights(out)]])
    after = [2 * n for n, _ in x.dims[2:]]
    y = g.add(
        "ConvTranspose",
        [x.name, g.weights(channels, out, 2, 2), *bias],
        (x.dims[0], *static(out, *after)),
        strides=[2, 2],
    )
    if g.chance.random() < 0.5:
        batch_norm_of(g, y)


def batch_norm(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) >= 2 and not value.dims[1][1] and value.dims[1][0] < 40)
    if x is not None:
        batch_norm_of(g, x)


def batch_norm_of(g: RandomGraph, x: Value) -> None:
    channels = x.dims[1][0]
    spread = g.constant((np.abs(g.rng.standard_normal(channels)) + 0.5).astype(g.dtype))
    numbers = [g.weights(channels) for _ in range(3)]
    g.add("BatchNormalization", [x.name, *numbers, spread], x.dims)


def pool(g: RandomGraph) -> None:
    x = g.any(picture)
    if x is None:
        return
    match g.chance.randrange(3):
        case 0:
            g.add("GlobalAveragePool", [x.name], (*x.dims[:2], ONE, ONE))
        case kind:
            after = [n - 1 for n, _ in x.dims[2:]]
            g.add(
                ("MaxPool", "AveragePool")[kind - 1],
                [x.name],
                (*x.dims[:2], *static(*after)),
                kernel_shape=[2, 2],
            )


def transpose(g: RandomGraph) -> None:
    x = g.any()
    perm = list(range(len(x.dims)))
    if not perm:
        return
    if g.chance.random() < 0.2:
        g.add("Transpose", [x.name], x.dims[::-1])
        return
    if g.chance.random() < 0.9:
        g.chance.shuffle(perm)
    g.add("Transpose", [x.name], tuple(x.dims[i] for i in perm), perm=perm)


def regrouped(g: RandomGraph, dims: Dims) -> Dims:
    """The same elements in other dimensions."""
    new = list(dims)
    for _ in range(g.chance.choice([1, 1, 2])):
        match g.chance.randrange(4):
            case 0 if len(new) > 1:
                i = g.chance.randrange(len(new) - 1)
                new[i : i + 2] = [times(new[i : i + 2])]
            case 1 if len(new) < 6:
                new.insert(g.chance.randrange(len(new) + 1), ONE)
            case 2 if len(new) < 6:
                i = g.chance.randrange(len(new)) if new else 0
                if new and new[i][0] % 2 == 0:
                    pair = [(2, ()), (new[i][0] // 2, new[i][1])]
                    new[i : i + 1] = (
                        pair if new[i][1] == () and g.chance.random() < 0.5 else pair[::-1]
                    )
            case 3 if ONE in new:
                new.remove(ONE)
    return tuple(new)


def reshape(g: RandomGraph) -> None:
    x = g.any()
    dims = regrouped(g, x.dims)
    if g.chance.random() < 0.3:
        _reshape_by_shape(g, x, dims)
        return
    numbers: list[int] = []
    for index, dim in enumerate(dims):
        same = index < len(x.dims) and x.dims[index] == dim
        if same and (dim[1] or g.chance.random() < 0.3):
            numbers.append(0)
        else:
            numbers.append(-1 if dim[1] else dim[0])
    if -1 not in numbers and numbers and g.chance.random() < 0.5:
        numbers[g.chance.randrange(len(numbers))] = -1
    if numbers.count(-1) > 1:
        _reshape_by_shape(g, x, dims)
    else:
        g.add("Reshape", [x.name, g.whole(*numbers)], dims)


def _reshape_by_shape(g: RandomGraph, x: Value, dims: Dims) -> None:
    """As exporters compute it: Shape, Gather, Unsqueeze, Concat."""
    parts, rest = [], 0
    for dim in dims:
        if dim in x.dims and (dim[1] or g.chance.random() < 0.5):
            (shape,) = g.raw("Shape", [x.name])
            where = x.dims.index(dim)
            if g.chance.random() < 0.5:
                parts.append(g.raw("Gather", [shape, g.whole(where)])[0])
            else:
                (number,) = g.raw("Gather", [shape, g.constant(np.array(where, np.int64))])
                if g.opset >= 13:
                    parts.append(g.raw("Unsqueeze", [number, g.whole(0)])[0])
                else:
                    parts.append(g.raw("Unsqueeze", [number], axes=[0])[0])
        elif dim[1]:
            rest += 1
            parts.append(g.whole(-1))
        else:
            parts.append(g.whole(dim[0]))
    if rest <= 1 and parts:
        (shape,) = g.raw("Concat", parts, axis=0)
        g.add("Reshape", [x.name, shape], dims)


def flatten(g: RandomGraph) -> None:
    x = g.any()
    axis = g.chance.randrange(len(x.dims) + 1)
    g.add("Flatten", [x.name], (times(x.dims[:axis]), times(x.dims[axis:])), axis=axis)


def squeeze(g: RandomGraph) -> None:
    x = g.any(lambda value: ONE in value.dims)
    if x is None:
        return
    axis = g.chance.choice([i for i, dim in enumerate(x.dims) if dim == ONE])
    dims = x.dims[:axis] + x.dims[axis + 1 :]
    g.axes("Squeeze", x.name, [g.sign(axis, len(x.dims))], dims, 13)


def unsqueeze(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) < 5)
    if x is None:
        return
    axis = g.chance.randrange(len(x.dims) + 1)
    dims = (*x.dims[:axis], ONE, *x.dims[axis:])
    g.axes("Unsqueeze", x.name, [g.sign(axis, len(dims))], dims, 13)


def slice_(g: RandomGraph) -> None:
    x = g.any(lambda value: any(not names for _, names in value.dims))
    if x is None:
        return
    axis = g.chance.choice([i for i, (_, names) in enumerate(x.dims) if not names])
    size = x.dims[axis][0]
    start, stop, step = g.chance.choice(
        [
            (0, size, 1),
            (0, 1 << 40, 1),
            (1, size, 1),
            (0, -1, 1),
            (-1, -(1 << 40), -1),
            (0, size, 2),
            (-2, 1 << 40, 1),
        ]
    )
    left = len(range(size)[slice(start, stop, step)])
    if left == 0:
        return
    dims = (*x.dims[:axis], (left, ()), *x.dims[axis + 1 :])
    numbers = [g.whole(n) for n in (start, stop, g.sign(axis, len(x.dims)), step)]
    g.add("Slice", [x.name, *numbers], dims)


def concat(g: RandomGraph) -> None:
    x = g.any(lambda value: any(not names for _, names in value.dims))
    if x is None:
        return
    axis = g.chance.choice([i for i, (_, names) in enumerate(x.dims) if not names])

    def fits(value: Value) -> bool:
        return len(value.dims) == len(x.dims) and all(
            a == b if i != axis else not b[1]
            for i, (a, b) in enumerate(zip(x.dims, value.dims, strict=True))
        )

    parts = [x, *(g.any(fits) for _ in range(g.chance.choice([0, 1, 1, 2])))]
    total = sum(part.dims[axis][0] for part in parts)
    if total > 48:
        return
    g.add(
        "Concat",
        [part.name for part in parts],
        (*x.dims[:axis], (total, ()), *x.dims[axis + 1 :]),
        axis=g.sign(axis, len(x.dims)),
    )


def split(g: RandomGraph) -> None:
    x = g.any(lambda value: any(not names and n > 1 for n, names in value.dims))
    if x is None:
        return
    axis = g.chance.choice([i for i, (n, names) in enumerate(x.dims) if not names and n > 1])
    size = x.dims[axis][0]
    first = size // 2 if g.chance.random() < 0.5 else 1
    sizes = [first, size - first]
    if g.opset >= 13:
        names = g.raw("Split", [x.name, g.whole(*sizes)], 2, axis=g.sign(axis, len(x.dims)))
    else:
        names = g.raw("Split", [x.name], 2, axis=axis, split=sizes)
    g.values += [
        Value(name, (*x.dims[:axis], (n, ()), *x.dims[axis + 1 :]))
        for name, n in zip(names, sizes, strict=True)
    ]
    if g.chance.random() < 0.3:
        order = names if g.chance.random() < 0.5 else names[::-1]
        g.add("Concat", order, x.dims, axis=axis)


def gather(g: RandomGraph) -> None:
    x = g.any(lambda value: any(not names for _, names in value.dims))
    if x is None:
        return
    axis = g.chance.choice([i for i, (_, names) in enumerate(x.dims) if not names])
    size = x.dims[axis][0]
    shape = g.chance.choice([[], [1], [2], [2, 2], [size], "all"])
    if shape == "all":
        places = np.arange(size)
        if g.chance.random() < 0.3:
            places = places[::-1].copy()
    else:
        places = g.rng.integers(-size, size, shape)
    dims = (*x.dims[:axis], *static(*places.shape), *x.dims[axis + 1 :])
    g.add(
        "Gather",
        [x.name, g.constant(np.asarray(places, np.int64))],
        dims,
        axis=g.sign(axis, len(x.dims)),
    )


def expand(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) < 5)
    if x is None:
        return
    sizes = [3 if dim == ONE and g.chance.random() < 0.5 else 1 for dim in x.dims]
    dims = tuple((3, ()) if n == 3 else dim for n, dim in zip(sizes, x.dims, strict=True))
    if g.chance.random() < 0.3:
        sizes, dims = [2, *sizes], ((2, ()), *dims)
    g.add("Expand", [x.name, g.whole(*sizes)], dims)


def tile(g: RandomGraph) -> None:
    x = g.any(lambda value: math.prod(n for n, _ in value.dims) < 200)
    if x is None:
        return
    counts = [g.chance.choice([1, 1, 2]) for _ in x.dims]
    dims = tuple((n * count, names) for count, (n, names) in zip(counts, x.dims, strict=True))
    g.add("Tile", [x.name, g.whole(*counts)], dims)


def pad(g: RandomGraph) -> None:
    x = g.any(lambda value: all(not names for _, names in value.dims[1:]))
    if x is None:
        return
    rank = len(x.dims)
    if not rank:
        return
    mode = g.chance.choice(["constant", "constant", "reflect", "edge"])
    before = [0] + [g.chance.choice([0, 1]) for _ in x.dims[1:]]
    after = [0] + [
        g.chance.choice([0, 0, 1, -1]) if mode == "constant" else g.chance.choice([0, 1])
        for _ in x.dims[1:]
    ]
    dims = tuple((n + a + b, names) for a, b, (n, names) in zip(before, after, x.dims, strict=True))
    if any(n < 1 for n, _ in dims) or (
        mode == "reflect"
        and any(n < 2 and (a or b) for a, b, (n, _) in zip(before, after, x.dims, strict=True))
    ):
        return
    fill = g.chance.choice([[], [g.weights()]]) if mode == "constant" else []
    if g.opset >= 11:
        g.add("Pad", [x.name, g.whole(*before, *after), *fill], dims, mode=mode)


def reduce(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) > 0)
    if x is None:
        return
    rank = len(x.dims)
    op = g.chance.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"])
    axes = sorted(g.chance.sample(range(rank), g.chance.choice([1, 1, min(2, rank)])))
    keep = g.chance.random() < 0.5
    dims = tuple(ONE if i in axes else dim for i, dim in enumerate(x.dims) if keep or i not in axes)
    signed = [g.sign(axis, rank) for axis in axes]
    g.axes(op, x.name, signed, dims, 13 if op == "ReduceSum" else 18, keepdims=int(keep))


def softmax(g: RandomGraph) -> None:
    x = g.any(lambda value: len(value.dims) > 0)
    if x is None:
        return
    op = g.chance.choice(["Softmax", "Softmax", "LogSoftmax"])
    g.add(op, [x.name], x.dims, axis=g.sign(g.chance.randrange(len(x.dims)), len(x.dims)))


def layer_norm(g: RandomGraph) -> None:
    """As one operator, or in parts."""
    x = g.any(lambda value: len(value.dims) > 1 and not value.dims[-1][1] and value.dims[-1][0] > 3)
    if x is None:
        return
    width, rank = x.dims[-1][0], len(x.dims)
    scale, bias = g.weights(width), g.weights(width)
    if g.opset >= 17 and g.chance.random() < 0.5:
        more = g.chance.choice([[], [bias]])
        g.add("LayerNormalization", [x.name, scale, *more], x.dims, axis=-1, epsilon=1e-3)
        return
    last = g.sign(rank - 1, rank)

    def mean(name: str) -> str:
        if g.opset >= 18:
            return g.raw("ReduceMean", [name, g.whole(last)], keepdims=1)[0]
        return g.raw("ReduceMean", [name], axes=[last], keepdims=1)[0]

    around = x.name
    if g.chance.random() < 0.8:
        (around,) = g.raw("Sub", [x.name, mean(x.name)])
    square = (
        g.raw("Pow", [around, g.constant(np.array(2, g.dtype))])
        if g.chance.random() < 0.5
        else g.raw("Mul", [around, around])
    )
    (shifted,) = g.raw("Add", [mean(square[0]), g.constant(np.array(1e-3, g.dtype))])
    (root,) = g.raw("Sqrt", [shifted])
    (y,) = g.raw("Div", [around, root])
    (scaled,) = g.raw("Mul", [y, scale])
    if g.chance.random() < 0.7:
        g.add("Add", [scaled, bias], x.dims)
    else:
        g.values.append(Value(scaled, x.dims))
    if g.chance.random() < 0.1:
        g.values.append(Value(y, x.dims))


def gelu(g: RandomGraph) -> None:
    x = g.any()
    number = lambda n: g.constant(np.array(n, g.dtype))  # noqa: E731
    if g.chance.random() < 0.6:
        (scaled,) = g.raw("Div", [x.name, number(math.sqrt(2))])
        (e,) = g.raw("Erf", [scaled])
    else:
        (cube,) = g.raw("Pow", [x.name, number(3)])
        (part,) = g.raw("Mul", [cube, number(0.044715)])
        (total,) = g.raw("Add", [x.name, part])
        (scaled,) = g.raw("Mul", [total, number(math.sqrt(2 / math.pi))])
        (e,) = g.raw("Tanh", [scaled])
    (one,) = g.raw("Add", [e, number(1)])
    match g.chance.randrange(3):
        case 0:
            (half,) = g.raw("Mul", [x.name, number(0.5)])
            g.add("Mul", [half, one], x.dims)
        case 1:
            (both,) = g.raw("Mul", [x.name, one])
            g.add("Mul", [both, number(0.5)], x.dims)
        case _:
            (half,) = g.raw("Mul", [one, number(0.5)])
            g.add("Mul", [x.name, half], x.dims)


def swish(g: RandomGraph) -> None:
    x = g.any()
    (gate,) = g.raw(g.chance.choice(["Sigmoid", "HardSigmoid"]), [x.name])
    g.add("Mul", [x.name, gate], x.dims)


def einsum(g: RandomGraph) -> None:
    x = g.any(
        lambda value: len(value.dims) in (2, 3) and not value.dims[-1][1] and value.dims[-1][0] < 30
    )
    if x is None:
        return
    letters, width = "abc"[: len(x.dims)], g.chance.choice([2, 3])
    last = letters[-1]
    if g.chance.random() < 0.7:
        pair, shape = g.chance.choice(
            [(f"{last}z", (x.dims[-1][0], width)), (f"z{last}", (width, x.dims[-1][0]))]
        )
        out = letters[:-1] + "z"
        dims = (*x.dims[:-1], (width, ()))
        order = list(range(len(out)))
        if g.chance.random() < 0.3:
            g.chance.shuffle(order)
        g.add(
            "Einsum",
            [x.name, g.weights(*shape)],
            tuple(dims[i] for i in order),
            equation=f"{letters},{pair}->{''.join(out[i] for i in order)}",
        )
    else:
        order = list(range(len(letters)))
        g.chance.shuffle(order)
        g.add(
            "Einsum",
            [x.name],
            tuple(x.dims[i] for i in order),
            equation=f"{letters}->{''.join(letters[i] for i in order)}",
        )


def attention(g: RandomGraph) -> None:
    """softmax(Q Kᵀ / √d) V of linear layers of one value, with one or two heads."""
    x = g.any(
        lambda value: len(value.dims) == 3 and not value.dims[-1][1] and value.dims[-1][0] <= 24
    )
    if x is None:
        return
    width, heads, size = x.dims[-1][0], g.chance.choice([1, 2]), g.chance.choice([2, 4])

    def project() -> str:
        (y,) = g.raw(
            "MatMul",
            [x.name, g.constant(g.rng.standard_normal((width, heads * size)).astype(g.dtype))],
        )
        if g.chance.random() < 0.8:
            (y,) = g.raw(
                "Add", [y, g.constant(g.rng.standard_normal(heads * size).astype(g.dtype))]
            )
        return g.raw("Reshape", [y, g.whole(0, 0, heads, size)])[0]

    q, k, v = project(), project(), project()
    (q,) = g.raw("Transpose", [q], perm=[0, 2, 1, 3])
    (k,) = g.raw("Transpose", [k], perm=[0, 2, 3, 1])
    (v,) = g.raw("Transpose", [v], perm=[0, 2, 1, 3])
    scale = g.constant(np.array(g.chance.choice([math.sqrt(size), 1.0, 3.0]), g.dtype))
    (scores,) = g.raw("MatMul", [q, k])
    (scores,) = g.raw("Div", [scores, scale])
    if g.chance.random() < 0.2:
        (scores,) = g.raw(
            "Add", [scores, g.weights(*g.chance.choice([[], [1, 1, 1, 1], [heads, 1, 1]]))]
        )
    (shares,) = g.raw("Softmax", [scores], axis=-1)
    (mixed,) = g.raw("MatMul", [shares, v])
    (mixed,) = g.raw("Transpose", [mixed], perm=[0, 2, 1, 3])
    g.add("Reshape", [mixed, g.whole(0, 0, heads * size)], (*x.dims[:2], (heads * size, ())))
    if g.chance.random() < 0.1:
        g.values.append(Value(shares, (x.dims[0], (heads, ()), x.dims[1], x.dims[1])))


def inner(
    g: RandomGraph, stem: str, inputs: Sequence[Value] = ()
) -> tuple[str, list[onnx.NodeProto]]:
    """A few steps that read what is around them, and their mean."""
    around, values = g.nodes, list(g.values)
    g.nodes = []
    g.values += inputs
    for _ in range(g.chance.choice([1, 2, 4])):
        g.chance.choice(STEPS)(g)
    new = [value for value in g.values if value not in values] or values
    total = "0"
    for index, value in enumerate(new[-2:]):
        (mean,) = g.raw("ReduceMean", [value.name], keepdims=0)
        total = g.raw("Add", [total, mean])[0] if index else mean
    (result,) = g.raw("Identity", [total])
    nodes, g.nodes, g.values = g.nodes, around, values
    return result, nodes


def branches(g: RandomGraph) -> None:
    """An If whose branches read what is around them."""
    x = g.any()
    if g.chance.random() < 0.3:
        test = g.constant(np.array(g.chance.random() < 0.5))
    else:
        (top,) = g.raw("ReduceMax", [x.name], keepdims=0)
        (test,) = g.raw("Greater", [top, g.weights()])
    graphs = []
    for stem in "te":
        result, nodes = inner(g, stem)
        kind = helper.make_tensor_value_info(result, g.kind, [])
        graphs.append(helper.make_graph(nodes, g.fresh(stem), [], [kind]))
    g.add("If", [test], (), then_branch=graphs[0], else_branch=graphs[1])


def loop(g: RandomGraph) -> None:
    """A sum over three rounds, each of which reads what is around it."""
    state, turn, go = g.fresh("s"), g.fresh("i"), g.fresh("go")
    result, nodes = inner(g, "b", [Value(state, ())])
    total, on = g.fresh("sum"), g.fresh("on")
    nodes += [
        helper.make_node("Add", [result, state], [total]),
        helper.make_node("Identity", [go], [on]),
    ]
    body = helper.make_graph(
        nodes,
        g.fresh("body"),
        [
            helper.make_tensor_value_info(turn, TensorProto.INT64, []),
            helper.make_tensor_value_info(go, TensorProto.BOOL, []),
            helper.make_tensor_value_info(state, g.kind, []),
        ],
        [
            helper.make_tensor_value_info(on, TensorProto.BOOL, []),
            helper.make_tensor_value_info(total, g.kind, []),
        ],
    )
    g.add("Loop", [g.constant(np.array(3)), "", g.weights()], (), body=body)


def residual_norm(g: RandomGraph) -> None:
    """A layer normalisation of a sum."""
    x = g.any(
        lambda value: len(value.dims) == 3 and not value.dims[-1][1] and value.dims[-1][0] > 3
    )
    if x is None or g.opset < 17:
        return
    width = x.dims[-1][0]
    y = g.any(lambda value: value.dims == x.dims or broadcast(x.dims, value.dims) == x.dims)
    one = y.name
    if g.chance.random() < 0.5:
        (one,) = g.raw("Add", [one, g.weights(width)])
    total = g.add("Add", [x.name, one], x.dims)
    g.add(
        "LayerNormalization",
        [total.name, g.weights(width), *g.chance.choice([[], [g.weights(width)]])],
        x.dims,
    )


def linear_gelu(g: RandomGraph) -> None:
    matmul(g)
    if g.opset >= 20 and g.chance.random() < 0.5:
        g.add(
            "Gelu",
            [g.values[-1].name],
            g.values[-1].dims,
            approximate=g.chance.choice(["none", "tanh"]),
        )


def hard(g: RandomGraph) -> None:
    """Activations in parts."""
    x = g.any()
    number = lambda n: g.constant(np.array(n, g.dtype))  # noqa: E731
    match g.chance.randrange(5):
        case 0:
            (moved,) = g.raw("Add", [x.name, number(3)])
            (held,) = g.raw("Clip", [moved, number(0), number(6)])
            (gate,) = g.raw("Div", [held, number(6)])
            g.add("Mul", [x.name, gate], x.dims)
        case 1:
            (slope,) = g.raw("Mul", [x.name, number(g.chance.choice([0.1, 1.5, -0.5]))])
            g.add("Max", [x.name, slope], x.dims)
        case 2:
            (low,) = g.raw("Max", [x.name, number(g.chance.choice([0, -1]))])
            g.add("Min", [low, number(g.chance.choice([6, -2]))], x.dims)
        case 3:
            (e,) = g.raw("Softplus", [x.name])
            (t,) = g.raw("Tanh", [e])
            g.add("Mul", [t, x.name], x.dims)
        case _:
            (n,) = g.raw("Neg", [x.name])
            (e,) = g.raw("Exp", [n])
            (one,) = g.raw("Add", [e, number(1)])
            g.add("Div", [x.name, one], x.dims)


def again(g: RandomGraph) -> None:
    """A node once more, for what is the same is computed once."""
    found = [node for node in g.nodes if node.op_type not in ("Constant", "If", "Loop", "Split")]
    known = {value.name: value for value in g.values}
    found = [node for node in found if node.output[0] in known]
    if found:
        node = g.chance.choice(found)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[:] = [g.fresh("v")]
        g.nodes.append(copy)
        g.values.append(Value(copy.output[0], known[node.output[0]].dims))


STEPS: tuple[Callable[[RandomGraph], None], ...] = (
    unary,
    unary,
    casts,
    clip,
    with_constant,
    with_constant,
    with_constant,
    binary,
    binary,
    where,
    matmul,
    matmul,
    matmul_both,
    gemm,
    gemm,
    conv,
    conv,
    conv,
    conv_transpose,
    batch_norm,
    pool,
    transpose,
    transpose,
    transpose,
    reshape,
    reshape,
    reshape,
    flatten,
    squeeze,
    unsqueeze,
    slice_,
    concat,
    split,
    gather,
    expand,
    tile,
    pad,
    reduce,
    reduce,
    softmax,
    layer_norm,
    residual_norm,
    linear_gelu,
    hard,
    hard,
    gelu,
    swish,
    einsum,
    attention,
    branches,
    loop,
    again,
)
