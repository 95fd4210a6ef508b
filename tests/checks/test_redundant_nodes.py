from __future__ import annotations

import numpy as np
import pytest

from onnxpress.checks.redundant_nodes import UNREAD, RedundantNodes
from zoo.graphs import parse


def found(body: str, **constants: np.ndarray) -> list[tuple[str, str]]:
    model = parse(f"(float[N,3] x, bool q) => (float[N,3] y) {{ {body} }}", **constants)
    findings = RedundantNodes().findings(model)
    assert all(f.fix == "onnxpress optimize model.onnx -o model-optimized.onnx" for f in findings)
    return [(finding.op, finding.what) for finding in findings]


@pytest.mark.parametrize(
    ("op", "body"),
    [
        ("Identity", "r = Identity(x)"),
        ("Dropout", "r = Dropout(x)"),
        ("Cast", "r = Cast<to=1>(x)"),
        ("Transpose", "r = Transpose<perm=[0, 1]>(x)"),
        ("Reshape", "s = Constant<value_ints=[0, 3]>() r = Reshape(x, s)"),
        ("Mul", "c = Constant<value_float=1.0>() r = Mul(c, x)"),
        ("Add", "c = Constant<value_float=0.0>() r = Add(x, c)"),
        ("Sub", "c = Constant<value_float=0.0>() r = Sub(x, c)"),
        ("Div", "c = Constant<value_float=1.0>() r = Div(x, c)"),
        ("Pow", "c = Constant<value_float=1.0>() r = Pow(x, c)"),
    ],
)
def test_no_ops_are_found(op: str, body: str) -> None:
    assert [name for name, _ in found(f"{body} y = Relu(r)")] == [op]


def test_dead_nodes_are_found_and_what_they_carry_is_not_listed() -> None:
    body = """t = Exp(x) d = If(q)<then_branch = g () => (float[N,3] a) { a = Identity(t) },
                                   else_branch = h () => (float[N,3] b) { b = Abs(t) }>
              y = Relu(x)"""
    assert found(body) == [("Exp", UNREAD), ("If", UNREAD)]


def test_a_copy_from_input_to_output_is_needed() -> None:
    assert found("y = Identity(x)") == []


def test_a_finding_names_the_node_or_else_its_output() -> None:
    model = parse("(float[N,3] x) => (float[N,3] y) { r = Identity(x) y = Relu(r) }")
    node = next(iter(model.nodes()))
    node.name = None
    assert RedundantNodes().findings(model)[0].where == "r"
    node.name = "copy"
    finding = RedundantNodes().findings(model)[0]
    assert (finding.where, finding.what) == ("copy", "copies its input")
