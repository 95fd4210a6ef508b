from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir

from onnxpress import api, terminal
from onnxpress.model import Model
from onnxpress.modules import SCOPES
from zoo.graphs import parse

Shell = Callable[..., tuple[int, str, str]]


def test_a_line_for_each_node() -> None:
    model = parse(
        "(float[batch,12] x) => (float[batch,8] y) { r = Reshape(x, shape)"
        " h = MatMul(r, w) t = Transpose<perm=[1,0,2]>(h) y = ReduceSum<keepdims=0>(t, axes) }",
        w=np.zeros((4, 8), np.float32), shape=np.array([0, 3, 4]), axes=np.array([0]),
    )  # fmt: skip
    model.ir.graph[1].metadata_props[SCOPES] = "['', 'head', 'linear']"
    assert list(api.listing(model)) == [
        "# graph g: ai.onnx 17, IR 8".replace("graph g", f"graph {model.ir.graph.name}"),
        "# 3 initializers of 0.00 MB: 2 int64, 1 float32",
        "input x: float32[batch, 12]",
        "r: float32[batch, 3, 4] = Reshape(x, [0, 3, 4])",
        "# head",
        "h: float32[batch, 3, 8] = MatMul(r, w: float32[4, 8])",
        "# (outermost module)",
        "t: float32[3, batch, 8] = Transpose(h) {perm=[1, 0, 2]}",
        "y: float32[batch, 8] = ReduceSum(t, [0]) {keepdims=0}",
        "output y: float32[batch, 8]",
    ]


def test_graphs_inside_nodes_are_indented() -> None:
    model = parse(
        "(bool k, float[2] x) => (float[2] y) { y = If(k) <"
        "then_branch = t () => (float[2] a) { a = Relu(x) },"
        "else_branch = e () => (float[2] b) { b = Abs(x) }> }"
    )
    assert list(api.listing(model))[4:-1] == [
        "y: float32[2] = If(k)",
        "  then_branch()",
        "    a: float32[2] = Relu(x)",
        "    output a: float32[2]",
        "  else_branch()",
        "    b: float32[2] = Abs(x)",
        "    output b: float32[2]",
    ]


def test_functions_come_last() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "mine": 1]> g (float[n] x) => (float[n] y)'
        " { y = mine.Scaled<gain=2.0>(x) }"
        ' <domain: "mine", opset_import: ["": 17]> Scaled <gain> (a) => (b)'
        " { c = Constant<value_float: float = @gain>() b = Mul(a, c) }"
    )
    lines = list(api.listing(Model(ir.from_proto(proto))))
    assert "y: float32[n] = mine::Scaled(x) {gain=2}" in lines
    assert lines[-4:] == [
        "function mine::Scaled(a)",
        "  c: ?[…] = Constant() {value_float=@gain}",
        "  b: ?[…] = Mul(a, c)",
        "  output b: ?[…]",
    ]


def test_names_with_line_breaks_stay_on_their_line() -> None:
    model = parse("(float[2] x) => (float[2] y) { a = Relu(x) y = Abs(a) }")
    model.ir.graph[0].outputs[0].name = "two\nlines"
    assert r"two\nlines: float32[2] = Relu(x)" in list(api.listing(model))


def test_a_pipe_gets_whole_lines_and_a_terminal_its_width(
    shell: Shell, tmp_path: Path, monkeypatch: object
) -> None:
    wide = ", ".join(f"a_rather_long_name_{number}" for number in range(8))
    model = parse(
        f"({', '.join(f'float[2] {name}' for name in wide.split(', '))}) => (float[2] y)"
        f" {{ y = Sum({wide}) }}"
    )
    model.save(tmp_path / "m.onnx")
    code, out, _ = shell("inspect", "m.onnx", "--text")
    assert code == 0
    assert f"y: float32[2] = Sum({wide})" in out.splitlines()

    class Wide(type(terminal.console())):  # type: ignore[misc]
        is_terminal = True

    monkeypatch.setattr("onnxpress.anatomy.console", lambda: Wide(width=80))  # type: ignore[attr-defined]
    lines = shell("inspect", "m.onnx", "--text")[1].splitlines()
    assert max(map(len, lines)) <= 80
    first = next(index for index, line in enumerate(lines) if line.startswith("y:"))
    assert lines[first + 1].startswith("      a_rather_long_name")
