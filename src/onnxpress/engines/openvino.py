"""OpenVINO on the CPU, straight from ONNX files."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import queue
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
from onnxpress.engines._openvino_options import CPU, GROUP, check, config
from onnxpress.errors import EngineError
from onnxpress.machine import INT8_DOT, Machine
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature, TensorSpec

if TYPE_CHECKING:
    import openvino

EXECUTED = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
BFLOAT16 = ("AVX512_BF16", "AMX_BF16", "ARM_BF16")


class OpenVino(Engine):
    """Runs ONNX files with OpenVINO's CPU plug-in."""

    bundle_options = frozenset(
        {
            GROUP,
            "CPU_DENORMALS_OPTIMIZATION",
            "ENABLE_CPU_PINNING",
            "ENABLE_HYPER_THREADING",
            "EXECUTION_MODE_HINT",
            "INFERENCE_NUM_THREADS",
            "INFERENCE_PRECISION_HINT",
            "NUM_STREAMS",
            "PERFORMANCE_HINT",
            "PERFORMANCE_HINT_NUM_REQUESTS",
            "SCHEDULING_CORE_TYPE",
        }
    )

    def available(self) -> Availability:
        if importlib.util.find_spec("openvino") is None:
            return Availability(False, "run: pip install 'onnxpress[openvino]'")
        try:
            version = importlib.metadata.version("openvino")
            importlib.import_module("openvino")
        except ImportError as error:  # of the package itself, or of its metadata
            return Availability(False, f"openvino is installed but fails to import ({error})")
        return Availability(True, "", version, ("CPU",))

    def forms(self, model: ModelFacts, machine: Machine) -> Sequence[Form]:
        """float32; bfloat16 where the CPU has it; int8 QDQ; int8 weights with int8 activations.

        OpenVINO quantises the activations of a MatMul whose weights go through DequantizeLinear
        at run time, in groups of channels; that form needs no calibration. Without a dot product
        for int8 its transformers are slower than in float32 (docs/quantization.md).
        """
        float32 = Settings("openvino", precision="float32")
        bfloat16 = Settings("openvino", precision="bfloat16")
        forms = [Form("openvino-float32", "", float32, "float32")]
        if machine.fast_bfloat16:
            forms.append(Form("openvino-bfloat16", "", bfloat16, "bfloat16", (BFLOAT16,)))
        if not machine.fast_int8 and model.mostly_linear:
            return forms
        if any(model.weights.get(op) for op in ("Conv", "MatMul", "Gemm")):
            dot = machine.int8_isa
            forms.append(Form("openvino-int8-static", "", float32, "int8", dot, "static"))
            if machine.fast_bfloat16:
                name, isa = "openvino-int8-static-bfloat16", (*dot, BFLOAT16)
                forms.append(Form(name, "", bfloat16, "int8", isa, "static"))
        if model.mostly_linear:
            for group in ("128", "32"):
                settings = Settings("openvino", precision="float32", options={GROUP: group})
                name = f"openvino-int8-weights-group{group}"
                forms.append(Form(name, "", settings, "int8", (INT8_DOT,), "weight-only"))
        return forms

    def knobs(self, machine: Machine, objective: str) -> Sequence[Knob]:
        """Threads, streams, pinning, hyper-threading; bfloat16 where the CPU has it."""
        _, *fewer = machine.thread_counts
        found = [Knob("threads", tuple({"threads": str(count)} for count in fewer))]
        if objective == "throughput":
            found.append(
                Knob(
                    "runs at once",
                    tuple({"requests": str(n), "NUM_STREAMS": str(n)} for n in machine.equal_parts),
                )
            )
        if machine.fast_bfloat16:
            found.append(Knob("precision", ({"precision": "bfloat16"},)))
        found.append(Knob("pinning", ({"ENABLE_CPU_PINNING": "NO"},)))
        if machine.logical_cores > machine.cores:
            found.append(Knob("hyper-threading", ({"ENABLE_HYPER_THREADING": "YES"},)))
        return [knob for knob in found if knob.values]

    def check(self, settings: Settings) -> None:
        check(settings)

    def open(self, artifact: Path, settings: Settings) -> Session:
        return _OpenVinoSession(Path(artifact), settings)

    def profile(
        self, artifact: Path, settings: Settings, feeds: Feeds, runs: int, warm_up: int = 3
    ) -> Timeline:
        """By OpenVINO's performance counters."""
        from onnxpress.engines._openvino_profile import timeline

        counting = replace(settings, options={**settings.options, "PERF_COUNT": "YES"})
        session = _OpenVinoSession(Path(artifact), counting)
        with session:
            assert session._compiled is not None
            try:
                return timeline(session._compiled, _executed, feeds, runs, warm_up)
            except RuntimeError as error:
                raise EngineError(f"openvino failed to run ({_reason(error)})") from error


class _OpenVinoSession(Session):
    """A compiled model with one infer request per run under way.

    A request that is shared between threads is refused as busy and overwrites its outputs, so
    each run borrows one of its own and copies the outputs.
    """

    def __init__(self, artifact: Path, settings: Settings) -> None:
        super().__init__()
        import openvino

        check(settings)
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        try:
            model = openvino.Core().read_model(artifact)
            self._names = [_name(port) for port in model.outputs]
            self._inputs = [_name(port) for port in model.inputs]
            self.signature = Signature(
                tuple(map(_spec, model.inputs)), tuple(map(_spec, model.outputs))
            )
            for spec in self.signature.inputs + self.signature.outputs:
                if spec.dtype == "object":
                    # Reading strings through its Python package ends in "free(): invalid pointer".
                    raise EngineError(
                        f"openvino cannot load {artifact.name} ('{spec.name}' holds strings)",
                        "numbers",
                    )
            self._compiled: openvino.CompiledModel | None = openvino.Core().compile_model(
                model, settings.provider or CPU, config(settings)
            )
        except Exception as error:  # its errors share no base class
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"openvino cannot load {artifact.name} ({_reason(error)})") from error

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        compiled = self._compiled
        if compiled is None:
            raise EngineError("the session is closed", "an open session")
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            request.infer(
                {i: feeds[name] for i, name in enumerate(self._inputs)}, share_inputs=True
            )
            return {
                name: np.array(request.get_output_tensor(i).data)
                for i, name in enumerate(self._names)
            }
        except RuntimeError as error:
            raise EngineError(f"openvino failed to run ({_reason(error)})") from error
        finally:
            self._idle.put(request)

    def executed(self) -> tuple[Executed, ...]:
        """The kernels of the compiled graph, joined with the names of the file's nodes."""
        if self._compiled is None:
            return ()
        return tuple(
            _executed(node.get_friendly_name(), node.get_rt_info())
            for node in self._compiled.get_runtime_model().get_ordered_ops()
        )

    def close(self) -> None:
        super().close()
        while not self._idle.empty():
            self._idle.get()
        self._compiled = None


def _name(port: openvino.Output) -> str:
    return str(port.get_any_name())


def _spec(port: openvino.Output) -> TensorSpec:
    dtype = port.get_element_type().to_dtype().name
    if port.get_element_type().get_type_name() == "string":
        dtype = "object"
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return TensorSpec(_name(port), dtype, None)
    return TensorSpec(
        _name(port), dtype, tuple("?" if dim.is_dynamic else dim.get_length() for dim in shape)
    )


def _executed(name: str, info: Mapping[str, openvino.OVAny]) -> Executed:
    def text(key: str) -> str:
        return str(info[key].value) if key in info else ""

    # A Gemm is split in two as it is loaded: its product gets this suffix.
    told = (name.partition("/WithoutBiases")[0] for name in text("originalLayersNames").split(","))
    layers = tuple(dict.fromkeys(filter(None, told)))
    precision = text("runtimePrecision")
    return Executed(name, text("layerType"), EXECUTED.get(precision, precision), layers)


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message that is not a source location."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1][:300]
