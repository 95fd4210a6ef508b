"""The activation peak, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.liveness import peak
from onnxpress.sizing import sized
from onnxpress.values import name_of
from zoo.graphs import parse

KILO = np.zeros((1000, 250), np.float32)


@pytest.mark.parametrize(
    ("body", "size", "node"),
    [
        # x, and what is made of it
        ("y = Relu(x)", 2000, "y"),
        # x goes after a, a after b
        ("a = Relu(x) b = Relu(a) y = Relu(b)", 2000, "a"),
        # x is read last
        ("a = Relu(x) b = Relu(a) y = Add(b, x)", 3000, "b"),
        # a reshape shares the memory that it reads, and keeps it
        ("a = Reshape(x, flat) b = Relu(x) c = Reshape(a, back) y = Add(b, c)", 3000, "y"),
        # wider, then narrow again
        ("w = MatMul(x, wide) y = MatMul(w, narrow)", 5000, "w"),
        # weights, and what is made of weights alone, are none
        ("t = Transpose(wide) u = Transpose(t) w = MatMul(x, u) y = MatMul(w, narrow)", 5000, "w"),
        # a Boolean takes a byte
        ("b = Cast<to=9>(x) y = Cast<to=1>(b)", 1250, "b"),
        # an output stays to the end
        ("y = Relu(x) a = Abs(y) b = Abs(a)", 3000, "b"),
    ],
)
def test_by_hand(body: str, size: int, node: str) -> None:
    found = parse(
        f"(float[n,250] x) => (float[n,250] y) {{ {body} }}",
        wide=np.zeros((250, 1000), np.float32), narrow=KILO, flat=np.array([-1]),
        back=np.array([-1, 250]),
    )  # fmt: skip
    shapes, _ = sized(found)
    most = peak(found.ir.graph, shapes)
    assert most.node is not None
    assert (most.bytes, name_of(most.node), most.unknown) == (size, node, 0)
    assert peak(found.ir.graph, sized(found, {"n": (4,)})[0]).bytes == 4 * size


def test_graphs_inside_nodes_hold_what_is_alive_around_them() -> None:
    found = parse(
        "(bool k, float[250] x) => (float[250] y) { a = Relu(x) b = If(k) <"
        "then_branch = t () => (float[250] c) { d = Abs(x) c = Add(d, x) },"
        "else_branch = e () => (float[250] f) { f = Abs(x) }> y = Add(a, b) }"
    )
    shapes, _ = sized(found)
    most = peak(found.ir.graph, shapes)
    # k, x and a outside, the If's result, and d and c within
    assert most.bytes == 1 + 5 * 1000
    assert most.node is not None
    assert name_of(most.node) == "c"


def test_sizes_that_are_not_known_are_counted() -> None:
    found = parse("(float[n,4] x) => (int64[2,m] y) { y = NonZero(x) }")
    most = peak(found.ir.graph, sized(found)[0])
    assert (most.bytes, most.unknown) == (16, 1)
