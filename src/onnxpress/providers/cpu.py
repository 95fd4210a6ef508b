"""The CPU."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Cpu(Provider):
    """ONNX Runtime's own kernels for the CPU (MLAS): what runs every node that no other takes."""

    title = "CPUExecutionProvider"
    package = "onnxruntime"
    hardware = "x86-64 and ARM64 CPUs; int8 is fast with VNNI, AMX, DOTPROD or I8MM."
    needs = "Nothing beside the package; every ONNX Runtime has it."
    use_when = "There is no accelerator, or the model is too small for the way to one and back."
    limits = (
        "float16 and bfloat16 are computed in float32 but for few kernels. Threads, arena and "
        "memory pattern are session options (`--session`)."
    )
    source = "https://onnxruntime.ai/docs/performance/tune-performance/threading.html"
    options: ClassVar[dict[str, Option]] = {}
