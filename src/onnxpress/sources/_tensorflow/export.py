"""How a traced program becomes ONNX: the one place that knows tf2onnx."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnxpress.errors import MissingExtra, OnnxpressError, SourceError
from onnxpress.model import Model
from onnxpress.opsets import nearest
from onnxpress.signature import TensorSpec
from onnxpress.source import Exported, ExportOptions
from onnxpress.sources._tensorflow.framework import quiet, reason, tensorflow
from onnxpress.sources._tensorflow.operators import HANDLERS
from onnxpress.sources._tensorflow.program import Program, Traced

OPSETS = (13, 18)
"""The opsets that tf2onnx writes and this adapter is tested with."""
LARGE_BYTES = 32 << 20
"""Weights of more bytes stay out of the graph while it is converted."""


def export(program: Program, traced: Traced, options: ExportOptions) -> Exported:
    """Convert with tf2onnx, then give inputs, outputs and free axes their names.

    Raises ``SourceError`` that names the operators that it does not know.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        raise MissingExtra.of("tf2onnx", "tensorflow", "converts TensorFlow models")
    if options.exporter != "auto":
        raise SourceError(f"--exporter {options.exporter} is PyTorch's", "auto")
    model, version = _tf2onnx(program, traced, nearest(options.opset, *OPSETS))
    _name(model, traced)
    _drop_unused_opsets(model)
    tf_version = tensorflow().__version__
    model.metadata["onnxpress.exporter"] = f"tf2onnx {version}, TensorFlow {tf_version}"
    return Exported(model, "tf2onnx")


def _tf2onnx(program: Program, traced: Traced, opset: int) -> tuple[Model, str]:
    """The model as tf2onnx makes it, and its version."""
    with quiet(), _errors_of("tf2onnx") as errors, contextlib.redirect_stdout(io.StringIO()):
        import tf2onnx

        try:
            large = _is_large(traced)
            frozen = _Whole(traced) if large else _Frozen(traced)
            _check_types(program, frozen.get_concrete_function().graph)
            with _product() if large else contextlib.nullcontext():
                proto, storage = tf2onnx.convert.from_function(
                    frozen,
                    input_signature=(),
                    opset=opset,
                    custom_op_handlers=dict(HANDLERS),
                    large_model=large,
                )
        except OnnxpressError:
            raise
        except Exception as error:
            raise _refused(program, _unknown(errors) or _why(error)) from error
    model = Model(ir.from_proto(proto))
    if large:
        _fill(model, storage.name_to_tensor_data)
    left = [node for node in model.nodes() if not _is_onnx(node)]
    if errors or left:
        nodes = ", ".join(f"{node.op_type} ({node.name})" for node in left[:3])
        raise _refused(program, _unknown(errors) or f"no ONNX for {nodes}")
    return model, str(tf2onnx.__version__)


class _Whole:
    """A traced function as it is; tf2onnx takes its variables out of the graph."""

    def __init__(self, traced: Traced) -> None:
        self._concrete = traced.concrete

    def get_concrete_function(self, *_: Any) -> Any:
        return self._concrete


def _is_large(traced: Traced) -> bool:
    """Whether to keep the weights out of the graph, which tf2onnx copies some fifty times.

    Never where the function captured constants, which tf2onnx would take for inputs then.
    """
    tensors = [tensor for tensor in traced.concrete.inputs if tensor.dtype.name != "resource"]
    sizes = [v.shape.num_elements() * v.dtype.size for v in traced.concrete.graph.variables]
    return len(tensors) == len(traced.signature.inputs) and sum(sizes) > LARGE_BYTES


@contextlib.contextmanager
def _product() -> Iterator[None]:
    """tf2onnx 1.17 calls ``np.product`` for large models, which NumPy 2 no longer has."""
    import tf2onnx.graph

    kept = tf2onnx.graph.np
    tf2onnx.graph.np = types.SimpleNamespace(**vars(np), product=np.prod)
    try:
        yield
    finally:
        tf2onnx.graph.np = kept


def _fill(model: Model, stored: Mapping[str, bytes]) -> None:
    """Put the weights that tf2onnx kept apart back in their places, without a copy."""
    for graph in model.ir.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                data = np.frombuffer(stored[str(tensor.location)], tensor.dtype.numpy())
                value.const_value = ir.Tensor(
                    data.reshape(tensor.shape.numpy()), name=value.name, dtype=tensor.dtype
                )


class _Frozen:
    """A traced function with its variables as constants, as tf2onnx takes a ``tf.function``.

    Frozen here, since tf2onnx takes constants that a function captured for inputs.
    """

    def __init__(self, traced: Traced) -> None:
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2 as freeze,
        )

        self._concrete = freeze(traced.concrete, lower_control_flow=False, aggressive_inlining=True)

    def get_concrete_function(self, *_: Any) -> Any:
        return self._concrete


def _check_types(program: Program, graph: Any) -> None:
    """Raise ``SourceError`` for what no engine runs on a CPU from an ONNX file."""
    for operation in graph.get_operations():
        if any(tensor.dtype.name == "bfloat16" for tensor in operation.outputs):
            raise SourceError(
                f"{program.name} computes in bfloat16 ({operation.name})", "float32 or float16",
                "give its layers the dtype policy float32",
            )  # fmt: skip


def _refused(program: Program, why: str) -> SourceError:
    return SourceError(
        f"tf2onnx could not convert {program.name} ({why})",
        "operators that tf2onnx knows",
        "replace that layer, or leave it to pre- or postprocessing",
    )


def _why(error: Exception) -> str:
    """The reason of a failure; TensorFlow has its own way to say that a graph keeps state."""
    found = re.search(
        r"of node (\S+) was passed .* incompatible with expected resource", str(error)
    )
    return f"it writes to a variable in {found[1]}" if found else reason(error)


def _is_onnx(node: ir.Node) -> bool:
    """Whether any version of ONNX has such an operator; tf2onnx leaves others as they were."""
    return bool(onnx.defs.has(node.op_type, node.domain if node.domain != "ai.onnx" else ""))


def _unknown(errors: list[str]) -> str:
    """What tf2onnx logged of operators it does not know, as ``Op in path/of/layer``."""
    unknown = []
    for text in errors:
        told = re.search(r"op \[(?P<node>.+): (?P<op>.+)\] is not supported", text)
        failed = re.search(r"convert node '(?P<node>.+?)'(.*?OP=(?P<op>\w+))?", text, re.DOTALL)
        if found := told or failed:
            unknown.append(f"no ONNX for {found['op'] or 'the operator'} in {found['node']}")
    return ", ".join(dict.fromkeys(unknown[:3]))


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[list[str]]:
    """What a logger and those below it say of errors, kept from the terminal."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]  # the shortest handler there is
    logger = logging.getLogger(name)
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.ERROR)
    try:
        yield said
    finally:
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])


def _name(model: Model, traced: Traced) -> None:
    """Inputs and outputs, which tf2onnx keeps in order, get the model's names and free axes."""
    graph, signature = model.ir.graph, traced.signature
    _add_unused_inputs(graph, signature.inputs)
    given = [f"onnxpress_input_{index}" for index in range(len(signature.inputs))]
    by_name = {str(value.name).partition(":")[0]: value for value in graph.inputs}
    graph.inputs[:] = [by_name[name] for name in given]
    made = {str(value.name): value for value in graph.outputs}
    graph.outputs[:] = [made[tensor.name] for tensor in traced.concrete.outputs]
    ours = [*graph.inputs, *graph.outputs]
    names = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    for node in model.nodes():
        for value in node.outputs:
            if value.name in names:
                value.name = f"{value.name}__inner"
    for value, spec in zip(ours, (*signature.inputs, *signature.outputs), strict=True):
        value.name = spec.name
        if spec.shape is not None:
            value.shape = ir.Shape(spec.shape)


def _add_unused_inputs(graph: ir.Graph, specs: tuple[TensorSpec, ...]) -> None:
    """Inputs that no operator reads, which tf2onnx may drop, so that feeds stay the same."""
    present = {str(value.name).partition(":")[0] for value in graph.inputs}
    for index, spec in enumerate(specs):
        name = f"onnxpress_input_{index}"
        if name not in present:
            kind = ir.DataType.from_numpy(np.dtype(spec.dtype))
            graph.inputs.append(ir.Value(name=name, type=ir.TensorType(kind)))


def _drop_unused_opsets(model: Model) -> None:
    used = {node.domain if node.domain != "ai.onnx" else "" for node in model.nodes()} | {""}
    for domain in set(model.ir.opset_imports) - used:
        del model.ir.opset_imports[domain]
