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

from onnxpress.custom_ops import FLAG, PACKAGES
from onnxpress.engine import Availability, Engine, Executed, Form, ModelFacts, Session, Timeline
from onnxpress.errors import EXTRAS, EngineError, MissingExtra
from onnxpress.machine import Machine, this_machine
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

UNREGISTERED = re.compile(r"([\w.-]+):(\w+)\(-?\d+\) is not a registered function/op")
UNTOLD = (
    (re.compile(r"^\d+ : [A-Z_]+ : "), ""),
    (re.compile(r"Load model from .*? failed: ?"), ""),
    (re.compile(r"Non-zero .*? running (\w+) node\. Name:'(.*?)' Status Message: "), r"\1 '\2': "),
    (re.compile(r"^(\w+) '': "), r"\1: "),
    (re.compile(r"\S+\.(cc|h):\d+ (([\w:]+ )?\S*::[^ (]*\([^()]*\)( const)?|\w+) "), ""),
    (re.compile(r"\S+ [=<>!]+ \S+ was false\. (?=\w)"), ""),
)
"""Parts of its messages that help nobody who does not read its source code, and what stands there
instead."""
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
            "execution_mode",
            "graph_optimization_level",
            "inter_op_num_threads",
            "intra_op_num_threads",
            "session.inter_op.allow_spinning",
            "session.intra_op.allow_spinning",
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

    def open(self, artifact: Path, settings: Settings) -> Session:
        return _OnnxRuntimeSession(Path(artifact), settings)

    def profile(
        self, artifact: Path, settings: Settings, feeds: Feeds, runs: int, warm_up: int = 3
    ) -> Timeline:
        """By ONNX Runtime's own profiler."""
        from onnxpress.engines._onnxruntime_profile import timeline

        def opened(options: Mapping[str, str]) -> onnxruntime.InferenceSession:
            profiling = replace(settings, options={**settings.options, **options})
            return _inference_session(Path(artifact), profiling)

        try:
            return timeline(opened, feeds, runs, warm_up)
        except EngineError:
            raise
        except Exception as error:  # its errors share no base class
            raise EngineError(f"onnxruntime failed to run ({_reason(error)})") from error


class _OnnxRuntimeSession(Session):
    """An ``onnxruntime.InferenceSession``; its ``run`` is thread-safe and returns fresh arrays."""

    def __init__(self, artifact: Path, settings: Settings) -> None:
        super().__init__()
        self._artifact, self._settings = artifact, settings
        self._inner: onnxruntime.InferenceSession | None = _inference_session(artifact, settings)
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
            raise EngineError(f"onnxruntime failed to run ({_reason(error)})") from error
        return dict(zip(self._outputs, values, strict=True))

    def executed(self) -> tuple[Executed, ...]:
        """The kernels of the graph that ONNX Runtime made at load time."""
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            _inference_session(self._artifact, self._settings, optimized)
            graph = onnx.load(str(optimized), load_external_data=False).graph
        types = {value.name: value.data_type for value in graph.initializer}
        for value in (*graph.value_info, *graph.input):
            types.setdefault(value.name, value.type.tensor_type.elem_type)
        _add_floats(graph, types)
        return tuple(
            Executed(node.name, node.op_type, _precision(node, types), _layers(node.name))
            for node in graph.node
        )

    def close(self) -> None:
        super().close()
        self._inner = None


def _inference_session(
    artifact: Path, settings: Settings, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    import onnxruntime

    provider, options = settings.provider or "CPUExecutionProvider", onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = settings.threads or this_machine().threads
    if settings.precision != "float32":
        raise EngineError(
            f"onnxruntime was asked for {settings.precision}",
            "float32: its CPU kernels follow the file's types",
        )
    for key, value in settings.options.items():
        _set(options, key, value)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        # Weights stay out of the dumped graph: only its nodes are read.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "weights.bin"
        )
    if provider not in onnxruntime.get_available_providers():
        known = ", ".join(onnxruntime.get_available_providers())
        raise EngineError(f"provider {provider} is not in this onnxruntime", f"one of {known}")
    if settings.custom_ops is not None:
        _register(options, settings.custom_ops)
    try:
        session = _loaded(artifact, options, provider)
    except Exception as error:  # its errors share no base class
        if isinstance(error, MissingExtra):
            raise
        lacking = UNREGISTERED.search(str(error))
        if lacking is not None:
            operator = f"{lacking[1]}::{lacking[2]}"
            raise _without_operator(artifact, operator, settings.custom_ops) from error
        raise EngineError(f"onnxruntime cannot load {artifact.name} ({_reason(error)})") from error
    if session.get_providers()[0] != provider:
        raise EngineError(
            f"provider {provider} did not load: onnxruntime fell back to "
            f"{session.get_providers()[0]}",
            provider,
        )
    return session


def _loaded(
    artifact: Path, options: onnxruntime.SessionOptions, provider: str
) -> onnxruntime.InferenceSession:
    """With the package that has the operators which onnxruntime turns out to lack."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(artifact), options, providers=[provider])
    except Exception as error:  # its errors share no base class
        lacking = UNREGISTERED.search(str(error))
        package = PACKAGES.get(lacking[1]) if lacking else None
        if package is None:
            raise
        if importlib.util.find_spec(package) is None:
            purpose = f"has the operators of {artifact.name}"
            raise MissingExtra.of(package, EXTRAS[package], purpose) from error
    library = importlib.import_module(package).get_library_path()
    _register(options, Path(library))
    return onnxruntime.InferenceSession(str(artifact), options, providers=[provider])


def _register(options: onnxruntime.SessionOptions, library: Path) -> None:
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # its errors share no base class
        raise EngineError(
            f"onnxruntime cannot load {library.name} ({_reason(error)})",
            "a shared library that exports RegisterCustomOps, built for this machine",
        ) from error


def _without_operator(artifact: Path, operator: str, library: Path | None) -> EngineError:
    if library is not None:
        return EngineError(
            f"{artifact.name} has the operator {operator}, which {library.name} lacks",
            f"a library with {operator}",
            f"give it with {FLAG}",
        )
    return EngineError(
        f"{artifact.name} has the operator {operator}, which onnxruntime lacks",
        "the shared library that has it",
        f"give it with {FLAG} LIB.so",
    )


def _set(options: onnxruntime.SessionOptions, key: str, value: str) -> None:
    """A dotted key is a session config entry, any other one an attribute of SessionOptions."""
    if "." in key:
        options.add_session_config_entry(key, value)
        return
    known = [name for name in dir(options) if not name.startswith(("_", "add_", "get_"))]
    if key not in known:
        raise EngineError(
            f"onnxruntime has no session option '{key}'", f"one of {', '.join(known)}"
        )
    old = getattr(options, key)
    try:
        if isinstance(old, bool):
            setattr(
                options, key, {"true": True, "1": True, "false": False, "0": False}[value.lower()]
            )
        elif isinstance(old, int):
            setattr(options, key, int(value))
        elif isinstance(old, str):
            setattr(options, key, value)
        else:
            setattr(options, key, getattr(type(old), value))
    except (KeyError, TypeError, ValueError, AttributeError):
        kind = type(old).__name__
        raise EngineError(f"session option {key}={value}", f"a value of type {kind}") from None


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


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without its error code, the file's folder and its own source code."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    for pattern, instead in UNTOLD:
        text = pattern.sub(instead, text)
    return text[:300]
