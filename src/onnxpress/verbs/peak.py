"""What the machine can multiply at best: large products of float32 matrices, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.runner import InProcess
from onnxpress.settings import Settings

SIDES = (512, 1024)
"""Rows, columns and depth of the products: the larger one keeps many cores busy, calls of the
smaller one are short enough to fall between those of other programs."""
SECONDS, LEAST_CALLS = 0.15, 3
"""For so long each is run, and so often at least."""


def measured_peak(settings: Settings, folder: Path) -> float:
    """GFLOP/s of the fastest call, on the engine and the threads of ``settings``, in float32.

    The right-hand side is a constant, as weights are, so that the engine may lay it out first.
    Raises ``EngineError``.
    """
    engine = registry.create(Engine, "engines", settings.engine)
    plain = replace(settings, precision="float32", custom_ops=None)
    rates = []
    for side in SIDES:
        matrix = np.random.default_rng(0).standard_normal((side, side), np.float32)
        with engine.open(_product(folder / f"{side}.onnx", matrix), plain) as session:
            calls = InProcess(session).time({"x": matrix}, SECONDS, LEAST_CALLS)
        rates.append(2 * side**3 / min(calls[1:]) / 1e9)
    return max(rates)


def _product(path: Path, matrix: np.ndarray) -> Path:
    shape = list(matrix.shape)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "peak", [x], [y], [numpy_helper.from_array(matrix, "w")])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path
