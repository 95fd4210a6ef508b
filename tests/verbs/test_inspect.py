"""What inspect counts is what a plain walk over the protobuf counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper, numpy_helper

import zoo
from onnxpress import api
from onnxpress.macs import macs_per_node
from onnxpress.model import load
from onnxpress.recipe import Facts, Recipe
from onnxpress.terminal import counted

Shell = Callable[..., tuple[int, str, str]]
LIGHT = sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("*.onnx"))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g) if attribute.HasField("g") else ()
            for inner in attribute.graphs:
                yield from nodes(inner)


def check(path: Path) -> None:
    proto = onnx.load(path)
    result = api.inspect(path).to_dict()
    plain = Counter(node.op_type for node in nodes(proto.graph))
    assert result["ops"] == dict(plain)
    assert result["nodes"] == plain.total()
    initializers = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value.name for value in proto.graph.input if value.name not in initializers]
    assert [spec["name"] for spec in result["inputs"]] == inputs  # type: ignore[union-attr, index]
    assert [spec["name"] for spec in result["outputs"]] == [v.name for v in proto.graph.output]  # type: ignore[union-attr, index]
    assert result["size_bytes"] == path.stat().st_size
    assert result["opsets"] == {o.domain or "ai.onnx": o.version for o in proto.opset_import}
    assert result["ir_version"] == proto.ir_version
    parameters = sum(
        int(np.prod(tensor.dims))
        for tensor in proto.graph.initializer
        if tensor.dims and tensor.data_type not in (TensorProto.INT64, TensorProto.INT32)
    )
    assert result["parameters"] == parameters


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo(name: str, zoo_model: Callable[[str], Path]) -> None:
    check(zoo_model(name))


def test_scales_and_zero_points_are_no_parameters(zoo_model: Callable[[str], Path]) -> None:
    model = load(zoo_model("mlp"))
    quantized, change = Recipe.parse("quantize_weights").apply(model, Facts())
    assert change.changed
    assert quantized.parameters == model.parameters


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    check(path)


def test_subgraphs_count_and_functions_are_inlined(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["b"]), helper.make_node("Abs", ["b"], ["c"])],
        "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=branch),
            helper.make_node("Twice", ["y"], ["z"], domain="mine"),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("k", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
    )
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["d"], [helper.make_node("Add", ["a", "a"], ["d"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=8), path)
    result = api.inspect(path)
    assert result.ops == {"Neg": 2, "Abs": 2, "If": 1, "Add": 1}
    assert result.nodes == 6


TALLEST = 40
"""Lines of a terminal's screen."""


@pytest.mark.parametrize("name", zoo.names())
def test_one_screen(name: str, zoo_model: Callable[[str], Path], shell: Shell) -> None:
    code, out, _ = shell("inspect", zoo_model(name))
    lines = out.splitlines()[1:]  # the first one is the path
    assert code == 0
    assert len(lines) <= TALLEST
    assert max(map(len, lines)) <= 80
    assert "MACs" in out
    assert "activations of at most" in out


def test_the_screen_tells_what_json_tells(zoo_model: Callable[[str], Path], shell: Shell) -> None:
    path = zoo_model("transformer_torchscript")
    told = " ".join(shell("inspect", path, "--shape", "length=6")[1].split())
    result = json.loads(shell("inspect", path, "--shape", "length=6", "--json")[1])
    assert f"{result['nodes']:,} nodes" in told
    assert f"{result['parameters']:,} parameters" in told
    assert "batch=1, length=6" in told
    assert result["sizes"] == {"batch": 1, "length": 6}
    assert f"redundant {counted(len(result['redundant']), 'node')}," in told
    for kind, count in result["fusions"]["possible"].items():
        assert f"{kind} {count}" in told
    for reason in result["fusions"]["reasons"]:
        assert f"{reason['count']} {reason['kind']}: {reason['why']}" in told


def test_layers_and_operators_add_up(zoo_model: Callable[[str], Path]) -> None:
    for name in zoo.names():
        result = api.inspect(zoo_model(name))
        found = result.to_dict()
        layers, operators = result.layers, found["operators"]
        assert len(layers) == result.nodes
        assert sum(layer.parameters for layer in layers) == result.parameters
        assert sum(row["macs"] for row in operators.values()) == result.macs > 0  # type: ignore[attr-defined]
        assert {op: row["count"] for op, row in operators.items()} == result.ops  # type: ignore[attr-defined]
        assert result.macs_unknown == result.peak.unknown == 0
        assert result.peak.bytes >= max(layer.activation_bytes for layer in layers)


def test_the_table_of_operators(zoo_model: Callable[[str], Path], shell: Shell) -> None:
    code, out, _ = shell("inspect", zoo_model("cnn"), "--ops")
    assert code == 0
    first = out.splitlines()[1].split()
    assert first[0] == "Conv"
    assert float(first[4].rstrip("%")) > 99
    assert max(map(len, out.splitlines())) <= 80
    by_node = out.split("node ")[1]
    assert "(blocks.0" in by_node
    assert len(shell("inspect", zoo_model("cnn"), "--ops", "-v")[1]) > len(out)


def test_macs_by_hand(tmp_path: Path) -> None:
    weights = {
        "k": np.zeros((8, 2, 3, 3), np.float32),
        "t": np.zeros((8, 4, 2, 2), np.float32),
        "w": np.zeros((5, 256), np.float32),
        "v": np.zeros((5, 7), np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "k"], ["a"], name="conv", group=2, pads=[1, 1, 1, 1]),
            helper.make_node("ConvTranspose", ["a", "t"], ["b"], name="up", strides=[2, 2]),
            helper.make_node("Flatten", ["b"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["g"], name="gemm", transB=1),
            helper.make_node("MatMul", ["g", "v"], ["y"], name="matmul"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m.onnx")
    macs = macs_per_node(load(tmp_path / "m.onnx"))
    assert macs == {
        "conv": 8 * 4 * 4 * 2 * 9,
        "up": 8 * 4 * 4 * 4 * 4,
        "gemm": 256 * 5,
        "matmul": 5 * 7,
    }
    assert macs_per_node(load(tmp_path / "m.onnx"), free=3)["gemm"] == 3 * 256 * 5
    assert api.inspect(tmp_path / "m.onnx").macs == sum(macs.values())
