"""Free dimensions that the engine behind a provider does not take, or takes with a cost."""

from __future__ import annotations

import shlex
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
Range = tuple[int, int, int]
"""The least, the most usual and the largest size."""
BATCH: Range = (1, 8, 32)
LENGTH: Range = (1, 128, 512)
PIXELS: Range = (32, 224, 1024)
IMAGE = 4
"""Dimensions of a batch of images."""
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
        sizes = _sizes(list(free))
        fix = _fix(model, sizes)
        if profile:
            ranges = _profile(target.provider, profile, list(free), sizes)
            fix += "\nor keep them free and say their ranges, yours in the place of these: "
            fix += f"onnxpress check {file_of(model)} --provider {ranges}"
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


def _sizes(specs: list[TensorSpec]) -> dict[str, Range]:
    """Free dimension → what sizes are plausible, by its name and place."""
    found: dict[str, Range] = {}
    for spec in specs:
        if spec.shape is None:
            found.setdefault(UNNAMED, BATCH)
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str):
                found.setdefault(dim, _plausible(dim, axis, len(spec.shape or ())))
    return found


def _plausible(name: str, axis: int, rank: int) -> Range:
    if "batch" in name.lower() or (axis == 0 and rank > 1 and not _is_length(name)):
        return BATCH
    return PIXELS if rank == IMAGE and axis >= IMAGE - 2 and not _is_length(name) else LENGTH


def _is_length(name: str) -> bool:
    return any(word in name.lower() for word in ("seq", "len", "token", "time"))


def _fix(model: Model, sizes: Mapping[str, Range]) -> str:
    """A command that fixes them; dimensions without a name must be exported anew."""
    if UNNAMED in sizes:
        return "export it with fixed sizes: onnxpress convert SOURCE --static -o static.onnx"
    fixed = " ".join(
        f"--fix {shlex.quote(f'{name}={1 if size is BATCH else size[1]}')}"
        for name, size in sizes.items()
    )
    return f"onnxpress optimize {file_of(model)} {fixed} -o {output_of(model, 'static')}"


def _profile(
    provider: str, prefix: str, specs: list[TensorSpec], sizes: Mapping[str, Range]
) -> str:
    def shapes(at: int) -> str:
        return ",".join(
            f"{spec.name}:{'x'.join(str(_size(dim, sizes, at)) for dim in spec.shape or ())}"
            for spec in specs
        )

    pairs = (
        f"{prefix}_{name}_shapes={shapes(at)}" for at, name in enumerate(("min", "opt", "max"))
    )
    return shlex.quote(f"{provider}:{','.join(pairs)}")


def _size(dim: int | str, sizes: Mapping[str, Range], at: int) -> int:
    return dim if isinstance(dim, int) else sizes[dim][at]
