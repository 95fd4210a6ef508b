from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.simplify_views import SimplifyViews
from zoo.graphs import apply, parse

SIMPLIFY = SimplifyViews()
ROWS = 2


def remaining(body: str, dims: str = "n,6,4", **shapes: tuple[int, ...]) -> list[str]:
    """Operators left of ``x → body → r → Relu → y``, in order."""
    model = parse(
        f"(float[{dims}] x) => (float[a,b,c] y) {{ {body} y = Relu(r) }}",
        **{name: np.array(shape, np.int64) for name, shape in shapes.items()},
    )
    sizes = [int(dim) if dim.isdecimal() else ROWS for dim in dims.split(",")]
    x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    after, _ = apply(SIMPLIFY, model, {"x": x})
    return [node.op_type for node in after.nodes()][:-1]


@pytest.mark.parametrize(
    ("body", "shapes", "left"),
    [
        ("a = Transpose<perm=[1,0,2]>(x) r = Transpose<perm=[1,0,2]>(a)", {}, []),
        ("a = Transpose<perm=[1,2,0]>(x) r = Transpose<perm=[1,0,2]>(a)", {}, ["Transpose"]),
        (
            "a = Reshape(x, s) b = Reshape(a, t) r = Reshape(b, u)",
            {"s": (0, 2, 3, 4), "t": (-1, 8), "u": (-1, 3, 8)},
            ["Reshape"],
        ),
        ("a = Reshape(x, s) r = Reshape(a, t)", {"s": (0, 2, 3, 4), "t": (0, 6, 4)}, []),
        (
            "a = Unsqueeze(x, one) b = Transpose<perm=[0,2,1,3]>(a) r = Squeeze(b, two)",
            {"one": (1,), "two": (2,)},
            [],
        ),
        (  # heads in front, as one batch, the other side of a product, and heads again
            "a = Reshape(x, s) b = Transpose<perm=[0,2,1,3]>(a) c = Reshape(b, t) "
            "d = Transpose<perm=[0,2,1]>(c) r = Reshape(d, u)",
            {"s": (0, 0, 2, 2), "t": (-1, 6, 2), "u": (-1, 4, 6)},
            ["Transpose"],
        ),
    ],
)
def test_chains_are_as_short_as_can_be(
    body: str, shapes: dict[str, tuple[int, ...]], left: list[str]
) -> None:
    assert remaining(body, **shapes) == left


def test_what_others_read_stays() -> None:
    body = "a = Transpose<perm=[1,0,2]>(x) b = Exp(a) c = ReduceSum<keepdims=0>(b) "
    assert remaining(body + "d = Transpose<perm=[1,0,2]>(a) r = Add(c, d)") == [
        "Transpose", "Exp", "ReduceSum", "Add",
    ]  # fmt: skip


def test_an_output_of_the_graph_keeps_its_name() -> None:
    model = parse(
        "(float[n,2,3] x) => (float[n,2,3] y) "
        "{ a = Transpose<perm=[0,2,1]>(x) y = Transpose<perm=[0,2,1]>(a) }"
    )
    after, change = apply(SIMPLIFY, model, {"x": np.ones((2, 2, 3), np.float32)})
    assert after.signature == model.signature
    assert change.rewrites == 0  # an input cannot be an output


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[int], list[tuple[str, list[int]]]]:
    """Sizes of an input, the first of which is free, and steps that all keep its factors."""
    factors = draw(st.lists(st.integers(2, 3), min_size=2, max_size=4))
    axes = [[0], *[[i] for i in range(1, len(factors) + 1)]]
    known = [ROWS, *factors]
    sizes = [math.prod(known[i] for i in axis) for axis in axes]
    steps: list[tuple[str, list[int]]] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            perm = draw(st.permutations(range(len(axes))))
            axes = [axes[i] for i in perm]
            steps.append(("Transpose", list(perm)))
            continue
        flat = [i for axis in axes for i in axis]
        cuts = sorted(draw(st.sets(st.integers(1, len(flat) - 1))) if len(flat) > 1 else [])
        axes = [flat[a:b] for a, b in zip([0, *cuts], [*cuts, len(flat)], strict=True)]
        for place in draw(st.lists(st.integers(0, len(axes)), max_size=1)):
            axes.insert(place, [])
        steps.append(("Reshape", [math.prod(known[i] for i in axis) for axis in axes]))
        free = next(i for i, axis in enumerate(axes) if 0 in axis)
        steps[-1][1][free] = -1
    return sizes, steps


@settings(max_examples=150, deadline=None)
@given(chains())
def test_any_chain_gives_the_same(chain: tuple[list[int], list[tuple[str, list[int]]]]) -> None:
    sizes, steps = chain
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", *sizes[1:]]))
    nodes, constants, rank = [ir.node("Relu", [x])], [], len(sizes)
    value = nodes[0].outputs[0]
    for kind, numbers in steps:
        if kind == "Transpose":
            nodes.append(ir.node("Transpose", [value], {"perm": numbers}))
        else:
            name = f"s{len(nodes)}"
            constants.append(ir.Value(name=name, const_value=ir.tensor(numbers, name=name)))
            nodes.append(ir.node("Reshape", [value, constants[-1]]))
        value, rank = nodes[-1].outputs[0], len(numbers)
    nodes.append(ir.node("Neg", [value]))
    for count, node in enumerate(nodes):
        node.outputs[0].name = f"v{count}"
    output = nodes[-1].outputs[0]
    output.type, output.shape = x.type, ir.Shape([None] * rank)
    graph = ir.Graph(
        [x], [output], nodes=nodes, initializers=constants, opset_imports={"": 17}, name="chain"
    )
    feeds = {"x": np.arange(ROWS * math.prod(sizes[1:]), dtype=np.float32).reshape(sizes)}
    model = Model(ir.Model(graph, ir_version=8))
    after, _ = apply(SIMPLIFY, model, feeds)
    left = [node.op_type for node in after.nodes()][1:-1]
    assert len(left) <= min(3, len(steps))
    assert left.count("Transpose") <= 1
