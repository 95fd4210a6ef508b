"""Small bundles, written without a press."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxpress import bundle
from onnxpress.bundle import BundledForm, Manifest
from onnxpress.settings import Settings
from onnxpress.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("n", 3)),), (TensorSpec("y", "float32", ("n", 3)),)
)


def write_model(path: Path, bias: float = -1.0, padding: int = 0) -> Path:
    """``y = max(x + bias, 0)`` for rows of three; ``padding`` unused floats make it larger."""
    constants = [numpy_helper.from_array(np.full(3, bias, np.float32), "b")]
    if padding:
        noise = np.random.default_rng(0).standard_normal(padding).astype(np.float32)
        constants.append(numpy_helper.from_array(noise, "padding"))
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["s"]), helper.make_node("Relu", ["s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def form(
    name: str, engine: str = "onnxruntime", isa: tuple[tuple[str, ...], ...] = ()
) -> BundledForm:
    return BundledForm(name, "", "", Settings(engine, threads=1), "float32", isa)


def manifest(*forms: BundledForm) -> Manifest:
    return Manifest("tensor", SIGNATURE, None, forms, "latency", forms[0].name)


def write_bundle(
    folder: Path, engines: Sequence[str] = ("onnxruntime",), bias: float = -1.0
) -> Path:
    """One float32 form for each engine, named as the press does."""
    model = write_model(folder.with_name(f"{folder.name}-model.onnx"), bias)
    forms = [form(f"{engine}-float32", engine) for engine in engines]
    bundle.write(folder, manifest(*forms), {item.name: model for item in forms})
    return folder
