"""Steps of random graphs: arithmetic, layers, activations, and patterns of several nodes."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from zoo.random_graphs import ONE, RandomGraph, Value, broadcast, static


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
