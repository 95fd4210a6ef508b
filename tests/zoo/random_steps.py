"""Steps of random graphs: views, graphs within graphs; and all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from zoo import random_layers as layers
from zoo.random_graphs import ONE, Dims, RandomGraph, Step, Value, static, times


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


def inner(
    g: RandomGraph, stem: str, inputs: Sequence[Value] = ()
) -> tuple[str, list[onnx.NodeProto]]:
    """A few steps that read what is around them, and their mean."""
    around, values = g.nodes, list(g.values)
    g.nodes = []
    g.values += inputs
    for _ in range(g.chance.choice([1, 2, 4])):
        g.step()
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


STEPS: tuple[Step, ...] = (
    layers.unary,
    layers.unary,
    layers.casts,
    layers.clip,
    layers.with_constant,
    layers.with_constant,
    layers.with_constant,
    layers.binary,
    layers.binary,
    layers.where,
    layers.matmul,
    layers.matmul,
    layers.matmul_both,
    layers.gemm,
    layers.gemm,
    layers.conv,
    layers.conv,
    layers.conv,
    layers.conv_transpose,
    layers.batch_norm,
    layers.pool,
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
    layers.softmax,
    layers.layer_norm,
    layers.residual_norm,
    layers.linear_gelu,
    layers.hard,
    layers.hard,
    layers.gelu,
    layers.swish,
    einsum,
    layers.attention,
    branches,
    loop,
    again,
)
