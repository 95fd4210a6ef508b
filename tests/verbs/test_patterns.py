"""Nodes are meant by their names, types and modules, and a pattern that means none is an error."""

from __future__ import annotations

import pytest

from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.verbs.patterns import matching
from zoo.graphs import parse


@pytest.fixture
def model() -> Model:
    made = parse("""(float[n,4] x) => (float[n,4] y) {
        a = Relu(x)  b = Sigmoid(a)  c = Relu(b)  d = Tanh(c)  y = Neg(d)
    }""")
    names = (
        "/encoder/layer.0/act/Relu",
        "/encoder/layer.1/act/Sigmoid",
        "/encoder/layer.10/Relu_1",
        "/head/Tanh",
        "",
    )
    for node, name in zip(made.ir.graph, names, strict=True):
        node.name = name or None
    return made


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/head/Tanh", [3]),
        ("Relu", [0, 2]),
        ("Rel?", [0, 2]),
        ("encoder", [0, 1, 2]),
        ("encoder.layer.1", [1]),
        ("encoder.layer.1*", [1, 2]),
        ("*.act", [0, 1]),
        ("/encoder/*", [0, 1, 2]),
        ("head", [3]),
        ("y", [4]),
        ("*", [0, 1, 2, 3, 4]),
        ("[ST]*", [1, 3]),
    ],
)
def test_names_types_and_modules(model: Model, pattern: str, found: list[int]) -> None:
    nodes = [node.name or "y" for node in model.ir.graph]
    assert matching(model, [pattern], "--exclude") == tuple(nodes[index] for index in found)


def test_several_patterns_in_graph_order_once(model: Model) -> None:
    assert matching(model, ["Tanh", "encoder.layer.10", "Tanh"], "--exclude") == (
        "/encoder/layer.10/Relu_1",
        "/head/Tanh",
    )
    assert matching(model, [], "--exclude") == ()


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("encoder.layer.7", "there is encoder.layer.1, encoder.layer.0"),
        ("relu", "there is Relu"),
        ("nothing-like-it", "there is Relu, Sigmoid, Tanh, Neg"),
    ],
)
def test_a_pattern_that_matches_nothing(model: Model, pattern: str, told: str) -> None:
    with pytest.raises(InputError, match=f"--exclude {pattern} matches no node") as caught:
        matching(model, ["Relu", pattern], "--exclude")
    assert told in str(caught.value)
