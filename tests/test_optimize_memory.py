"""Optimising holds no more than three times the model in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxpress.model import load
from zoo.graphs import parse

LAYERS, WIDTH = 12, 2048
SCRIPT = """
import resource, sys
import numpy as np
from onnxpress import api

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

how = {"verify": sys.argv[4] == "proven", "target": sys.argv[3]}
api.optimize(sys.argv[2], **how)
base = peak()
api.optimize(sys.argv[1], **how).model.save(sys.argv[5])
print(peak() - base)
"""


def tower(path: Path, layers: int, width: int) -> Path:
    """Something for each pass to rewrite: weights transposed, scaled, shifted, given twice."""
    rng = np.random.default_rng(0)
    body, x, weights = "", "x", {"one": np.float32(1), "two": np.float32(2)}
    for i in range(layers):
        weights[f"w{i}"] = rng.standard_normal((width, width), np.float32) / 50
        weights[f"b{i}"] = rng.standard_normal(width).astype(np.float32)
        body += (
            f" t{i} = Transpose<perm=[1,0]>(w{i}) p{i} = MatMul({x}, t{i}) q{i} = Add(p{i}, b{i})"
            f" s{i} = Mul(q{i}, two) r{i} = Relu(s{i}) y{i} = Mul(r{i}, one)"
        )
        x = f"y{i}"
    text = f"(float[n,{width}] x) => (float[m,{width}] y) {{ {body} y = Identity({x}) }}"
    return parse(text, 18, **weights).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["portable", "onnxruntime"])
@pytest.mark.parametrize("proven", ["proven", "unproven"])
def test_peak_of_a_model_of_200_mb(target: str, proven: str, tmp_path: Path) -> None:
    """What is loaded anyway, and a constant, are those of the same model at a tiny size."""
    path = tower(tmp_path / "m.onnx", LAYERS, WIDTH)
    tiny = tower(tmp_path / "tiny.onnx", LAYERS, 8)
    size = path.stat().st_size
    assert size > 200e6
    words = [path, tiny, target, proven, tmp_path / "out.onnx"]
    command = [sys.executable, "-c", SCRIPT, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert load(tmp_path / "out.onnx").op_counts()["Gemm"] == LAYERS
    assert int(done.stdout) < 3 * size


@pytest.mark.slow
def test_weights_of_more_than_2_gb_stay_where_they_are(tmp_path: Path) -> None:
    """3 GB of zeros that the disk does not hold; unread, for no pass has to change them."""
    rows = 3 * (1 << 28)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, rows // 4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": 0, "length": rows * 4}.items():
        weight.external_data.add(key=key, value=str(value))
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(rows * 4)
    nodes = [
        helper.make_node("Identity", ["x"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["p"]),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", rows // 4])],
        [weight],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    script = (
        "import resource, sys\nfrom onnxpress import api\n"
        "model = api.optimize(sys.argv[1], verify=False, target=sys.argv[2]).model\n"
        "assert model.op_counts() == {'MatMul': 1, 'Relu': 1}, model.op_counts()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)\n"
    )
    for target in ("portable", "onnxruntime"):
        command = [sys.executable, "-c", script, str(tmp_path / "m.onnx"), target]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(done.stdout) < 3 * rows * 4
