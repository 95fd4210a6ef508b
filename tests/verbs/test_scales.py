from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxpress import api
from onnxpress.calibrator import Range
from onnxpress.model import load
from onnxpress.recipe import Facts, Ranges, Recipe
from onnxpress.verbs.scales import Scale, scales
from zoo.graphs import parse

Shell = Callable[..., tuple[int, str, str]]


def test_per_tensor_and_per_channel() -> None:
    model = parse(
        "(float[n,2] x) => (float[n,3] y) { q = QuantizeLinear(x, s, z)"
        " d = DequantizeLinear(q, s, z) v = DequantizeLinear<axis=1>(w, t) y = MatMul(d, v) }",
        s=np.float32(0.5), z=np.uint8(7), t=np.float32([1, 2, 4]), w=np.zeros((2, 3), np.int8),
    )  # fmt: skip
    assert scales(model) == (
        Scale("x", ("q", "d"), False, "uint8", "tensor", None, 1, 0.5, 0.5, 7, 7, -3.5, 124.0),
        Scale("w", ("v",), True, "int8", "channel", 1, 3, 1.0, 4.0, 0, 0, -512.0, 508.0),
    )


def test_scales_that_are_computed() -> None:
    model = parse(
        "(float[n,2] x) => (float[n,2] y) { q, s, z = DynamicQuantizeLinear(x)"
        " y = DequantizeLinear(q, s, z) }"
    )
    told = scales(model)
    assert [(row.tensor, row.per, row.count) for row in told] == [
        ("x", "computed", None), ("q", "computed", None),
    ]  # fmt: skip


def test_operators_that_take_their_scales() -> None:
    model = parse(
        "(uint8[1,1,4,4] x) => (uint8[1,2,4,4] y) { y = QLinearConv(x, a, z, w, b, k, c, z) }",
        a=np.float32(0.1), b=np.float32([0.2, 0.3]), c=np.float32(0.4), z=np.uint8(3),
        k=np.array([0, 1], np.uint8), w=np.zeros((2, 1, 1, 1), np.uint8),
    )  # fmt: skip
    found = [(row.tensor, row.per, row.zero_low, row.zero_high) for row in scales(model)]
    assert found == [("x", "tensor", 3, 3), ("w", "channel", 0, 1), ("y", "tensor", 3, 3)]


@pytest.mark.parametrize("form", [["--scales"], []])
def test_a_quantised_model(
    form: list[str], zoo_model: Callable[[str], Path], tmp_path: Path, shell: Shell
) -> None:
    model = load(zoo_model("mlp"))
    values = (value for node in model.nodes() for value in node.outputs)
    names = [spec.name for spec in model.signature.inputs] + [str(value.name) for value in values]
    facts = Facts({Ranges(): {name: Range(-1.0, 3.0) for name in names}})
    quantized, change = Recipe.parse("quantize_static").apply(model, facts)
    assert change.changed
    quantized.save(tmp_path / "q.onnx")
    rows = api.inspect(tmp_path / "q.onnx").scales
    assert {row.per for row in rows if row.weight} == {"channel"}
    assert {row.per for row in rows if not row.weight} == {"tensor"}
    code, out, _ = shell("inspect", "q.onnx", *form)
    assert code == 0
    assert "activations per tensor" in out
    assert max(map(len, out.splitlines())) <= 80
