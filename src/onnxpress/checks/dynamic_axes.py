"""Free dimensions that the engine behind a provider does not take, or takes with a cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxpress.finding import ANYWHERE, Check, Finding, Level, Target, file_of, output_of
from onnxpress.model import Model
from onnxpress.signature import TensorSpec

UNNAMED = "?"

STATIC: Mapping[str, tuple[Level, str]] = {
    "QNNExecutionProvider": ("error", "QNN takes no free dimensions"),
    "NnapiExecutionProvider": ("warning", "NNAPI takes no free dimensions: the CPU runs them"),
    "CoreMLExecutionProvider": ("warning", "Core ML is slower with free dimensions, or refuses"),
    "WebNNExecutionProvider": ("warning", "WebNN takes no free dimensions: the CPU runs them"),
    "TensorrtExecutionProvider": ("warning", "TensorRT builds an engine anew for each new size"),
    "NvTensorRTRTXExecutionProvider": ("warning", "TensorRT RTX wants the sizes' ranges"),
}
"""Provider → how bad a free dimension is there. From ONNX Runtime's pages on each provider."""
PROFILES: Mapping[str, str] = {
    "TensorrtExecutionProvider": "trt_profile",
    "NvTensorRTRTXExecutionProvider": "nv_profile",
}
"""Provider whose options tell the ranges of free dimensions → how these options begin."""
NPU: tuple[Level, str] = ("error", "OpenVINO on an NPU takes no free dimensions")


class DynamicAxes(Check):
    """One finding for each input with free dimensions, where the provider cares."""

    reads_data: ClassVar[bool] = False

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        rule = STATIC.get(target.provider)
        if target.provider == "OpenVINOExecutionProvider" and _is_npu(target):
            rule = NPU
        profile = PROFILES.get(target.provider, "")
        if rule is None or (profile and f"{profile}_min_shapes" in target.options):
            return []
        free = {spec: _free(spec) for spec in model.signature.inputs}
        names = list(dict.fromkeys(name for dims in free.values() for name in dims))
        fix = _fix(model, names)
        if profile:
            fix += f"; or say their ranges: {_profile(target.provider, profile, list(free))}"
        level, why = rule
        return [
            Finding("dynamic_axes", level, spec.name, "", f"{why}: {_told(dims)}", fix)
            for spec, dims in free.items()
            if dims
        ]


def _is_npu(target: Target) -> bool:
    return target.options.get("device_type", "").upper().startswith("NPU")


def _free(spec: TensorSpec) -> list[str]:
    if spec.shape is None:
        return [UNNAMED]
    return [dim for dim in spec.shape if isinstance(dim, str)]


def _told(dims: list[str]) -> str:
    return ", ".join("one without a name" if dim == UNNAMED else dim for dim in dims)


def _fix(model: Model, names: list[str]) -> str:
    """A command that fixes them; dimensions without a name must be exported anew."""
    if UNNAMED in names:
        return "export it with fixed sizes: onnxpress convert SOURCE --static -o static.onnx"
    sizes = " ".join(f"--fix {name}={1 if at == 0 else 128}" for at, name in enumerate(names))
    return f"onnxpress optimize {file_of(model)} {sizes} -o {output_of(model, 'static')}"


def _profile(provider: str, prefix: str, specs: list[TensorSpec]) -> str:
    def shapes(size: int) -> str:
        return ",".join(
            f"{spec.name}:{'x'.join(str(_size(dim, size)) for dim in spec.shape or ())}"
            for spec in specs
        )

    options = {"min": 1, "opt": 8, "max": 32}
    pairs = ",".join(f"{prefix}_{name}_shapes={shapes(size)}" for name, size in options.items())
    return f"--provider {provider}:{pairs}"


def _size(dim: int | str, free: int) -> int:
    return dim if isinstance(dim, int) else free
