from __future__ import annotations

import onnx_ir as ir
import pytest

from onnxpress.modules import NAMESPACE, SCOPES, inherit, module_of


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("/encoder/layer.0/attention/MatMul_1", "encoder.layer.0.attention"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/features/features.0/features.0.1/Relu", "features.0.1"),
        ("/MatMul", ""),
        ("model/dense/MatMul__12", "model/dense"),
        ("Identity_421", ""),
        ("", ""),
    ],
)
def test_names_of_older_exporters(name: str, module: str) -> None:
    assert module_of(ir.node("Relu", [], name=name or None)) == module


@pytest.mark.parametrize(
    ("metadata", "module"),
    [
        ({SCOPES: "['', 'model', 'model.encoder', 'linear_2']"}, "model.encoder"),
        ({SCOPES: "['', 'relu']"}, ""),
        ({SCOPES: "['relu']"}, ""),
        ({SCOPES: "no list", NAMESPACE: ": a.B/head: c.D/linear: aten.linear.default"}, "head"),
        ({NAMESPACE: "linear: aten.linear.default"}, ""),
        ({SCOPES: "("}, "in/the/name"),
    ],
)
def test_metadata_goes_before_the_name(metadata: dict[str, str], module: str) -> None:
    node = ir.node("Relu", [], name="in/the/name/Relu")
    node.metadata_props.update(metadata)
    assert module_of(node) == module


def test_what_a_node_knows_already_stays() -> None:
    old, new = ir.node("Relu", []), ir.node("Gelu", [])
    old.metadata_props.update({SCOPES: "['', 'old', 'x']", "other": "1"})
    new.metadata_props["other"] = "2"
    assert inherit(new, old) is new
    assert new.metadata_props["other"] == "2"
    assert module_of(new) == "old"
