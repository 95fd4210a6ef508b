"""What is said of shapes before a model runs is what they are when it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import zoo
from onnxpress.dims import Size
from onnxpress.model import Model, load
from onnxpress.shapes import Shapes
from zoo.graphs import answers, parse

ZooModel = Callable[[str], Path]
BUILTINS = {"min": min, "max": max, "__builtins__": {}}


def tensors(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor that a node of the main graph makes, by name."""
    tapped = model.clone()
    for node in tapped.ir.graph:
        for value in node.outputs:
            if value.name and not value.is_graph_output():
                tapped.ir.graph.outputs.append(value)
    ir.passes.common.ShapeInferencePass(check_type=False, strict_mode=False)(tapped.ir)
    tapped.ir.graph.outputs[:] = [value for value in tapped.ir.graph.outputs if value.type]
    names = [str(value.name) for value in tapped.ir.graph.outputs]
    return dict(zip(names, answers(tapped, feeds), strict=True))


def numbers(sizes: Iterable[Size], known: dict[str, int]) -> list[int | None]:
    """None for a size that nothing was known of."""
    return [
        None if "?" in str(size) else eval(str(size), BUILTINS, known)  # its name is its formula
        for size in sizes
    ]


def check(model: Model, feeds: dict[str, np.ndarray]) -> tuple[int, int]:
    """Every tensor of the main graph as it is; how many sizes were known, of how many."""
    dims = (
        (dim, size)
        for spec in model.signature.inputs
        for dim, size in zip(spec.shape or (), feeds[spec.name].shape, strict=True)
    )
    known = {dim: size for dim, size in dims if isinstance(dim, str)}
    shapes, sure, total = Shapes(model.ir), 0, 0
    values = {str(value.name): value for node in model.ir.graph for value in node.outputs}
    for name, array in tensors(model, feeds).items():
        shape, elements = shapes.shape(values[name]), shapes.elements(values[name])
        total += array.ndim
        if shape is not None:
            told = numbers(shape, known)
            assert len(told) == array.ndim
            assert all(a in (None, b) for a, b in zip(told, array.shape, strict=True)), name
            sure += sum(size is not None for size in told)
        if elements is not None:
            assert elements.shape == array.shape
            told = numbers(elements.flat, known)
            assert all(a in (None, b) for a, b in zip(told, array.flat, strict=True)), name
    return sure, total


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("rows", [1, 3])
def test_the_zoo(name: str, rows: int, zoo_model: ZooModel) -> None:
    model = load(zoo_model(name)).inlined()
    sure, total = check(model, zoo.feeds(model.signature, rows, rows))
    assert sure >= 0.9 * total


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("s = Shape(x) y = Reshape(x, s)", "[n, m, 6]"),
        ("y = Transpose<perm=[2,0,1]>(x)", "[6, n, m]"),
        ("y = Flatten<axis=2>(x)", "[m*n, 6]"),
        ("y = Concat<axis=1>(x, x)", "[n, 2*m, 6]"),
        ("s = Shape<start=0, end=1>(x) e = Concat<axis=0>(s, six) y = Expand(one, e)", "[n, 6]"),
        ("y = Tile(x, halves)", "[2*n, 2*m, 12]"),
        ("z = ReduceSum<keepdims=0>(x, two) y = MatMul(x, w)", "[n, m, 4]"),
        ("s = Shape(x) i = Gather(s, zero) r = Range(zero, i, step) y = Cast<to=1>(r)", "[n]"),
        ("s = Shape(x) d = Div(s, halves) y = ConstantOfShape(d)", "[(n)//(2), (m)//(2), 3]"),
        ("y = Slice(x, from, to, axis)", "[n, min(2, m), 6]"),
        (
            "s = Shape(x) c = Concat<axis=0>(s, six) r = Reshape(c, pairs) t = Transpose(r)"
            " f = Reshape(t, flat) y = ConstantOfShape(f)",
            "[n, 6, m, 6]",
        ),
        (
            "s = Shape(x) c = Concat<axis=0>(s, six) r = Reshape(c, pairs)"
            " b = Slice(r, last, start, from, last) f = Reshape(b, flat) y = ConstantOfShape(f)",
            "[6, 6, n, m]",
        ),
        ("y = Pad(x, pads)", "[n + 1, m + 3, 6]"),
        (
            "s = Shape<start=0, end=1>(x) p = Concat<axis=0>(axis, s) y = Pad(x, p, , axis)",
            "[n, m + n + 1, 6]",
        ),
        (
            "s = Shape<start=0, end=1>(x) r = Concat<axis=0>(s, twice) y = Tile(x, r)",
            "[n*n, 2*m, 12]",
        ),
        (
            "k = Mod(six, four) p = Concat<axis=0>(from, from, k, from, from, from) y = Pad(x, p)",
            "[n, m, 8]",
        ),
    ],
)
def test_sizes_are_followed(body: str, shape: str) -> None:
    model = parse(
        f"(float[n,m,6] x) => (float y) {{ {body} }}", 18, six=np.array([6]), one=np.float32([1]),
        two=np.array([2]), w=np.ones((6, 4), np.float32), zero=np.int64(0), step=np.int64(1),
        halves=np.array([2, 2, 2]), **{"from": np.array([0]), "to": np.array([2])},
        axis=np.array([1]), pairs=np.array([-1, 2]), flat=np.array([-1]), four=np.array([4]),
        last=np.array([-1]),
        pads=np.array([1, 0, 0, 0, 3, 0]), twice=np.array([2, 2]), start=np.array([-(2**63) + 1]),
    )  # fmt: skip
    (output,) = model.ir.graph.outputs
    assert str(list(Shapes(model.ir).shape(output) or ())) == shape
    check(model, {"x": np.ones((2, 5, 6), np.float32)})


@pytest.mark.parametrize(
    "body",
    [
        "y = Slice(x, from, to, k)",
        "y = Slice(x, from, to, axis, k)",
        "e = Cast<to=6>(end) f = Cast<to=7>(e) y = Slice(x, from, f, axis)",
        "e = Add(end, one) y = Slice(x, from, e, axis)",
    ],
    ids=["axes", "steps", "an end past 32 bits", "an end past 64 bits"],
)
def test_what_is_not_known_is_not_taken_for_absent(body: str) -> None:
    model = parse(
        f"(float[3,4] x, int64[1] k) => (float[a,b] y) {{ {body} }}", one=np.array([1]),
        to=np.array([2]), end=np.array([2**63 - 1]), axis=np.array([1]), **{"from": np.array([0])},
    )  # fmt: skip
    check(model, {"x": np.ones((3, 4), np.float32), "k": np.array([1])})
    shape = Shapes(model.ir).shape(model.ir.graph.outputs[0])
    assert shape is None or any("?" in str(size) for size in shape)
