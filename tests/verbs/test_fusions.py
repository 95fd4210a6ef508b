"""Fusions that are there, that might be, and that cannot be, in the names of the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import zoo
from onnxpress import api
from onnxpress.model import Model, load
from onnxpress.modules import SCOPES, module_of
from onnxpress.recipe import Recipe
from onnxpress.values import name_of
from onnxpress.verbs.fusions import Fusions, fusions
from onnxpress.verbs.optimize import RECIPES
from zoo.graphs import parse

NORM = (
    "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) "
    "e = Add(v, epsilon) r = Sqrt(e) n = Div(d, r) g = Mul(n, gamma) y = Add(g, beta)"
)
GELU = "h = Div(x, root2) e = Erf(h) f = Add(e, one) g = Mul(x, f) y = Mul(g, half)"
NUMBERS: Mapping[str, np.ndarray] = {
    "epsilon": np.float32(1e-5), "gamma": np.float32([1, 2, 3, 4]), "half": np.float32(0.5),
    "beta": np.float32([4, 3, 2, 1]), "root2": np.float32(2**0.5), "one": np.float32(1),
    "nothing": np.float32(0),
}  # fmt: skip


def model(body: str, opset: int = 20, extra: str = "") -> Model:
    return parse(f"(float[n,3,4] x) => (float[n,3,4] y{extra}) {{ {body} }}", opset, 9, **NUMBERS)


def attention(path: Path, *, planted: bool) -> Model:
    """One block; ``planted``: its probabilities are an output, too."""
    found = load(path)
    if planted:
        (softmax,) = (node for node in found.nodes() if node.op_type == "Softmax")
        found.ir.graph.outputs.append(softmax.outputs[0])
    return found


@pytest.mark.parametrize("name", ["transformer", "transformer_torchscript"])
def test_an_attention_whose_probabilities_are_an_output(
    name: str, zoo_model: Callable[[str], Path]
) -> None:
    path = zoo_model(name)
    free = fusions(attention(path, planted=False))
    kinds = {"Attention", "MultiHeadAttention"}
    assert sum(free.possible.get(kind, 0) for kind in kinds) == 1
    assert free.target == "onnxruntime"
    assert "Attention" not in {missed.kind for missed in free.missed}
    found = attention(path, planted=True)
    (softmax,) = (node for node in found.nodes() if node.op_type == "Softmax")
    blocked = fusions(found)
    assert not kinds & blocked.possible.keys()
    (missed,) = (missed for missed in blocked.missed if missed.kind == "Attention")
    assert missed.nodes == (name_of(softmax),)
    assert missed.why == "its probabilities are an output of the model"
    assert missed.blocking == name_of(softmax)


@pytest.mark.parametrize(
    ("kind", "body", "reader", "blocking"),
    [
        ("LayerNormalization", NORM, "z = Abs(v)", "Abs"),
        ("Gelu", GELU, "z = Tanh(f)", "Tanh"),
    ],
)
def test_a_formula_that_others_read_a_part_of(
    kind: str, body: str, reader: str, blocking: str
) -> None:
    found = fusions(model(body))
    assert found.possible == {kind: 1}
    assert found.missed == ()
    planted = model(f"{body} {reader}", extra=", float z")
    told = fusions(planted)
    assert told.possible == {}
    (missed,) = told.missed
    assert (missed.kind, missed.blocking) == (kind, "z")
    assert missed.why == f"{blocking} reads one of its inner values"
    assert set(missed.nodes) <= {name_of(node) for node in planted.nodes()}


def test_what_passes_make_is_told_by_the_original_nodes() -> None:
    found = parse(
        "(float[n,3,4] x) => (float[n,3,4] y) { s = Add(x, nothing) t = Relu(s)"
        " u = Add(t, row) y = LayerNormalization<axis=-1>(u, gamma) }",
        20, 9, **NUMBERS, row=np.ones((1, 1, 4), np.float32),
    )  # fmt: skip
    for number, node in enumerate(found.nodes()):
        node.name = f"node {number}"
    original = {node.name for node in found.nodes()}
    for missed in fusions(found).missed:
        assert set(missed.nodes) <= original
        assert missed.blocking in {*original, ""}


def test_what_is_missed_in_the_first_round_only_is_not_missed() -> None:
    told = fusions(model("a = Add(x, nothing) " + GELU.replace("x", "a")))
    assert told.possible == {"Gelu": 1}
    assert told.missed == ()


def test_equal_reasons_are_counted() -> None:
    first = GELU.replace("y =", "k =") + " z = Tanh(f) "
    again = (
        "i = Div(k, root2) j = Erf(i) o = Add(j, one) p = Mul(k, o) y = Mul(p, half) w = Tanh(o)"
    )
    found = fusions(model(first + again, extra=", float z, float w")).to_dict()
    assert found["reasons"] == [
        {"kind": "Gelu", "why": "Tanh reads one of its inner values", "count": 2}
    ]


def test_a_fusion_without_an_operator_is_told_by_its_pass(zoo_model: Callable[[str], Path]) -> None:
    found: Fusions = fusions(load(zoo_model("cnn_bn")))
    assert found.possible["fuse_conv_bn"] == 5
    assert found.target == "portable"
    assert found.present == {}


def test_the_original_is_left_alone(zoo_model: Callable[[str], Path]) -> None:
    found = load(zoo_model("transformer"))
    before = ir.to_proto(found.ir).SerializeToString(deterministic=True)
    fusions(found)
    assert ir.to_proto(found.ir).SerializeToString(deterministic=True) == before


def test_modules_in_json(zoo_model: Callable[[str], Path]) -> None:
    result = api.inspect(attention(zoo_model("transformer"), planted=True)).to_dict()
    layers = {layer["node"]: layer for layer in result["layers"]}  # type: ignore[attr-defined, index]
    assert {layer["module"] for layer in layers.values()} >= {"qkv", "norm", "wide", "narrow"}
    (missed,) = result["fusions"]["missed"]  # type: ignore[index]
    assert missed["why"] == "its probabilities are an output of the model"
    assert missed["module"] == ""


@pytest.mark.parametrize("name", zoo.names())
def test_modules_survive_the_recipe(name: str, zoo_model: Callable[[str], Path]) -> None:
    found = load(zoo_model(name))
    for node in found.nodes():
        node.name = None
        node.metadata_props.clear()
        node.metadata_props[SCOPES] = "['', 'mine', 'op']"
    for step in Recipe.parse(RECIPES["onnxruntime"]).passes:
        found = step.apply(found)[0]
    assert {module_of(node) for node in found.nodes()} == {"mine"}
