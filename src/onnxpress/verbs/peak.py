"""What the machine can multiply at best: one large product of float32 matrices, measured."""

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

SIDE = 1024
"""Rows, columns and depth of the product: 2.1 GFLOP, larger than caches of the second level."""
SECONDS, LEAST_CALLS = 0.3, 3
"""For so long it is run, and so often at least."""


def measured_peak(settings: Settings, folder: Path) -> float:
    """GFLOP/s of the fastest call, on the engine and the threads of ``settings``, in float32.

    The right-hand side is a constant, as weights are, so that the engine may lay it out first.
    Raises ``EngineError``.
    """
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((SIDE, SIDE), np.float32)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [SIDE, SIDE]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "peak",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(matrix, "w")],
    )
    path = folder / "peak.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    engine = registry.create(Engine, "engines", settings.engine)
    plain = replace(settings, precision="float32", custom_ops=None)
    with engine.open(path, plain) as session:
        calls = InProcess(session).time({"x": matrix}, SECONDS, LEAST_CALLS)
    return 2 * SIDE**3 / min(calls[1:]) / 1e9
