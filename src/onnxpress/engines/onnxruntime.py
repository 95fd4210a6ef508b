"""ONNX Runtime with any of its execution providers."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxpress.engine import (
    Availability,
    Engine,
    Executed,
    Form,
    Knob,
    ModelFacts,
    Session,
    Timeline,
)
from onnxpress.engines._onnxruntime_knobs import knobs
from onnxpress.engines._onnxruntime_options import CPU, session_options
from onnxpress.engines._onnxruntime_session import fallbacks, inference_session, reason
from onnxpress.errors import EngineError
from onnxpress.machine import Machine
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import onnxruntime

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(string)": "object",
}
"""Element types whose NumPy name is not the text in brackets."""

INT8_KERNELS = {
    "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul", "QGemm", "QAttention",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QLinearAdd",
    "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", "QLinearMul",
}  # fmt: skip


class OnnxRuntime(Engine):
    """Runs ONNX files with onnxruntime."""

    runs_custom_ops = True
    bundle_options = frozenset(
        {
            "enable_cpu_mem_arena",
            "enable_mem_pattern",
            "enable_mem_reuse",
            "execution_mode",
            "execution_order",
            "graph_optimization_level",
            "inter_op_num_threads",
            "intra_op_num_threads",
            "log_severity_level",
            "log_verbosity_level",
            "session.disable_prepacking",
            "session.force_spinning_stop",
            "session.inter_op.allow_spinning",
            "session.intra_op.allow_spinning",
            "session.intra_op_thread_affinities",
            "session.set_denormal_as_zero",
            "use_deterministic_compute",
        }
    )

    def available(self) -> Availability:
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, "run: pip install 'onnxpress[onnxruntime]'")
        try:
            import onnxruntime
        except ImportError as error:
            return Availability(False, f"onnxruntime is installed but fails to import ({error})")
        providers = tuple(onnxruntime.get_available_providers())
        return Availability(True, "", onnxruntime.__version__, providers)

    def forms(self, model: ModelFacts, machine: Machine) -> Sequence[Form]:
        """float32; int8 with activations quantised at run time; int8 QDQ."""
        settings, isa = Settings("onnxruntime"), machine.int8_isa
        forms = [Form("onnxruntime-float32", "", settings, "float32")]
        if model.mostly_linear:
            forms.append(Form("onnxruntime-int8-dynamic", "", settings, "int8", isa, "dynamic"))
        if any(model.weights.get(op) for op in ("Conv", "MatMul", "Gemm")):
            forms.append(Form("onnxruntime-int8-static", "", settings, "int8", isa, "static"))
        return forms

    def knobs(self, machine: Machine, objective: str) -> Sequence[Knob]:
        return knobs(machine, objective)

    def check(self, settings: Settings) -> None:
        session_options(settings)

    def open(self, artifact: Path, settings: Settings) -> Session:
        return _OnnxRuntimeSession(Path(artifact), settings)

    def profile(
        self, artifact: Path, settings: Settings, feeds: Feeds, runs: int, warm_up: int = 3
    ) -> Timeline:
        """By ONNX Runtime's own profiler."""
        from onnxpress.engines._onnxruntime_profile import timeline

        def opened(options: Mapping[str, str]) -> onnxruntime.InferenceSession:
            profiling = replace(settings, options={**settings.options, **options})
            return inference_session(Path(artifact), profiling)

        try:
            return timeline(opened, feeds, runs, warm_up)
        except EngineError:
            raise
        except Exception as error:  # its errors share no base class
            raise EngineError(f"onnxruntime failed to run ({reason(error)})") from error


class _OnnxRuntimeSession(Session):
    """An ``onnxruntime.InferenceSession``; its ``run`` is thread-safe and returns fresh arrays."""

    def __init__(self, artifact: Path, settings: Settings) -> None:
        super().__init__()
        self._artifact, self._settings = artifact, settings
        self._inner: onnxruntime.InferenceSession | None = inference_session(artifact, settings)
        self.signature = Signature(
            tuple(map(_spec, self._inner.get_inputs())),
            tuple(map(_spec, self._inner.get_outputs())),
        )
        self._outputs = [spec.name for spec in self.signature.outputs]

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        inner = self._inner
        if inner is None:
            raise EngineError("the session is closed", "an open session")
        try:
            values = inner.run(self._outputs, dict(feeds))
        except Exception as error:  # its errors share no base class
            raise EngineError(f"onnxruntime failed to run ({reason(error)})") from error
        return dict(zip(self._outputs, values, strict=True))

    def executed(self) -> tuple[Executed, ...]:
        """The kernels of the graph that ONNX Runtime made at load time."""
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            inference_session(self._artifact, self._settings, optimized)
            graph = onnx.load(str(optimized), load_external_data=False).graph
        types = {value.name: value.data_type for value in graph.initializer}
        for value in (*graph.value_info, *graph.input):
            types.setdefault(value.name, value.type.tensor_type.elem_type)
        _add_floats(graph, types)
        return tuple(
            Executed(node.name, node.op_type, _precision(node, types), _layers(node.name))
            for node in graph.node
        )

    def fallbacks(self) -> tuple[str, ...]:
        """The nodes that the CPU runs though another provider was asked for."""
        if self._settings.provider in ("", CPU) or self._inner is None:
            return ()
        return fallbacks(self._inner)

    def close(self) -> None:
        super().close()
        self._inner = None


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    dtype = DTYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    shape = tuple(dim if isinstance(dim, int) else dim or "?" for dim in value.shape)
    return TensorSpec(value.name, dtype, shape)


def _add_floats(graph: onnx.GraphProto, types: dict[str, int]) -> None:
    """The types that ONNX Runtime leaves out of the file: a float in makes the same float out.

    Kernels of integers among them are known by their operator.
    """
    from onnx import TensorProto

    floats = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    for node in graph.node:
        cast = [attribute.i for attribute in node.attribute if attribute.name == "to"]
        given = [types[name] for name in node.input if types.get(name) in floats]
        for made in cast or given[:1]:
            for name in node.output:
                types.setdefault(name, made)


def _precision(node: object, types: Mapping[str, int]) -> str:
    from onnx import NodeProto, TensorProto

    assert isinstance(node, NodeProto)
    if node.op_type in INT8_KERNELS:
        return "int8"
    elements = [types[name] for name in node.input if name in types]
    name = TensorProto.DataType.Name(elements[0]).lower() if elements else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def _layers(name: str) -> tuple[str, ...]:
    """The file's node: ONNX Runtime keeps its name and adds suffixes as it fuses."""
    original = re.sub(r"(_token_\d+|_nchwc|_quant|_MatMulInteger)+$", "", name)
    return (original,) if original else ()
