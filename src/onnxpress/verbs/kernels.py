"""Asks the installed ONNX Runtime what it makes of a model: kernels, casts, providers."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path

import onnx_ir as ir

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.errors import EngineError, MissingExtra
from onnxpress.finding import Kernels
from onnxpress.model import MAPPED_BYTES, Model
from onnxpress.settings import Settings
from onnxpress.shapes import Shapes
from onnxpress.values import constant_tensor, name_of, subgraphs

ENGINE = "onnxruntime"
LACKS = re.compile(r"Could not find an implementation for (\w+)\(")
"""How ONNX Runtime says that a node has no kernel for its types."""
INSERTED = "InsertedPrecisionFreeCast"
"""How the Cast nodes are called that ONNX Runtime puts around what it has in float32 only."""
MOST_ELEMENTS = 64
"""Constants up to this size go along with a node that is tried alone: shapes, axes, scales."""


def kernels(model: Model, provider: str = "") -> Kernels:
    """What ONNX Runtime says when it opens ``model``, on the CPU or a provider that is installed.

    Where it lacks a kernel, each kind of node is tried alone, so that all of them are known.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    settings = Settings(ENGINE, custom_ops=model.custom_ops)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = model.path or model.clone().save(Path(folder) / "model.onnx", MAPPED_BYTES)
        try:
            with engine.open(path, settings) as session:
                casts = 0
                if _has_float16(model):
                    casts = sum(kernel.name.startswith(INSERTED) for kernel in session.executed())
        except MissingExtra:
            return Kernels()  # of an operator's package, which another check asks for
        except EngineError as error:
            missing = _missing(model, engine, Path(folder)) if LACKS.search(str(error)) else {}
            return Kernels(missing=missing, refusal=_reason(error))
        if not provider:
            return Kernels(casts=casts)
        named = _named(model).save(Path(folder) / "named.onnx", MAPPED_BYTES)
        return Kernels(casts=casts, assigned=_assigned(named, provider))


def _named(model: Model) -> Model:
    """A clone whose nodes all have the names that findings call them by."""
    clone = model.clone()
    for node in clone.nodes():
        node.name = name_of(node)
    return clone


def _missing(model: Model, engine: Engine, folder: Path) -> dict[str, str]:
    """Name of a node → the element types that there is no kernel for."""
    types, known, missing = Shapes(model.ir), dict[str, bool](), dict[str, str]()
    for node in model.nodes():
        dtypes = [types.dtype(value) for value in node.inputs]
        if any(subgraphs(node)) or any(
            value is not None and dtype is None
            for value, dtype in zip(node.inputs, dtypes, strict=True)
        ):
            continue
        told = ", ".join(dict.fromkeys(dtype.name.lower() for dtype in dtypes if dtype))
        kind = f"{node.domain}::{node.op_type}({dtypes}) {sorted(node.attributes)}"
        if kind not in known:
            known[kind] = _lacks(_alone(node, model, types), engine, folder / "node.onnx")
        if known[kind]:
            missing[name_of(node)] = told or "its types"
    return missing


def _alone(node: ir.Node, model: Model, types: Shapes) -> ir.Model:
    """A model of this one node; small constants are constants there too."""
    given: dict[ir.Value, ir.Value] = {}
    for value in node.inputs:
        if value is None or value in given:
            continue
        tensor, dtype = constant_tensor(value), types.dtype(value)
        small = tensor is not None and tensor.size <= MOST_ELEMENTS
        given[value] = ir.Value(
            name=f"x{len(given)}",
            type=ir.TensorType(dtype) if dtype is not None else None,
            shape=ir.Shape(tensor.shape.numpy()) if tensor is not None else value.shape,
            const_value=tensor if small else None,
        )
    inner = ir.Node(
        node.domain,
        node.op_type,
        [given[value] if value is not None else None for value in node.inputs],
        node.attributes.values(),
        overload=node.overload,
        num_outputs=len(node.outputs),
        name="node",
    )
    for index, value in enumerate(inner.outputs):
        dtype = types.dtype(node.outputs[index])
        value.name, value.type = f"y{index}", ir.TensorType(dtype) if dtype is not None else None
    graph = ir.Graph(
        [value for value in given.values() if value.const_value is None],
        [value for value in inner.outputs if value.type is not None],
        nodes=[inner],
        initializers=[value for value in given.values() if value.const_value is not None],
        opset_imports=dict(model.ir.opset_imports),
        name="alone",
    )
    return ir.Model(graph, ir_version=model.ir.ir_version)


def _lacks(model: ir.Model, engine: Engine, path: Path) -> bool:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        ir.save(model, path)
        engine.open(path, Settings(ENGINE)).close()
    except EngineError as error:
        return LACKS.search(str(error)) is not None
    finally:
        logging.disable(level)
    return False


def _assigned(path: Path, provider: str) -> dict[str, str]:
    """Name of a node → the provider that ONNX Runtime gives it to; empty where it cannot tell."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The nodes of the file, not what fusions make of them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        str(path), options, providers=[provider, "CPUExecutionProvider"]
    )
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before 1.24
        return {}
    return {
        node.name: part.ep_name
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    }


def _has_float16(model: Model) -> bool:
    types = (
        value.dtype for node in model.nodes() for value in (*node.inputs, *node.outputs) if value
    )
    return ir.DataType.FLOAT16 in types


def _reason(error: EngineError) -> str:
    """ONNX Runtime's own words."""
    found = re.search(r"\((.*)\)$", error.found)
    return found[1] if found else error.found
