"""TensorFlow's two formats: odd names, two inputs, refusals in one line, what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxpress import api
from onnxpress.errors import EngineError, MissingExtra
from onnxpress.exporters import _onnx2tf
from onnxpress.exporters._onnx2tf import require_same
from onnxpress.signature import Signature, TensorSpec
from zoo.graphs import parse

TWO_INPUTS = """
(float[batch, 3, 8, 6] x, float[batch, 5] x2) => (float[batch, 4, 4, 3] y, float[batch, 5] z)
{
  c = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)
  y = Relu (c)
  z = Sigmoid (x2)
}
"""


@pytest.fixture
def installed() -> None:
    try:
        _onnx2tf.require("tensorflow", "tf_keras")
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("to", ["tflite", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_names_and_layouts_stay(to: str, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    model = parse(TWO_INPUTS, w=weights)
    model.ir.graph.inputs[0].name, model.ir.graph.outputs[0].name = "x.first", "/out/y.1"
    result = api.export(model, to, tmp_path / ("m.tflite" if to == "tflite" else "m"))
    assert result.verified.ok
    assert [case.shapes["x.first"] for case in result.verified.cases] == [
        (batch, 3, 8, 6) for batch in (1, 2, 5)
    ]


def test_what_is_missing_names_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_onnx2tf, "VERSION", "0.0")
    with pytest.raises(MissingExtra) as told:
        _onnx2tf.require()
    assert "pip install 'onnxpress[tflite" in str(told.value)
    assert "pip install --no-deps --ignore-requires-python onnx2tf==" in str(told.value)


def test_a_converter_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match=r"onnx2tf cannot take the model \(exit code 1\)"):
        _onnx2tf.convert(tmp_path / "m.onnx", tmp_path / "m.tflite", "tflite")


def test_a_frozen_axis_and_lost_names_are_told() -> None:
    wanted = Signature(
        (TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", ("batch",)),)
    )
    require_same(wanted, {"x": (-1, 3)}, ["y"])
    with pytest.raises(EngineError, match=r"froze axis 0 \('batch'\) of input 'x' to 1"):
        require_same(wanted, {"x": (1, 3)}, ["y"])
    with pytest.raises(EngineError, match="wrote the outputs Identity; expected y"):
        require_same(wanted, {"x": (-1, 3)}, ["Identity"])
