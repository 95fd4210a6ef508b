"""x86 CPUs through oneDNN."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Dnnl(Provider):
    """x86 CPUs through oneDNN."""

    title = "DnnlExecutionProvider"
    hardware = "x86-64 CPUs."
    needs = "A build with `--use_dnnl`."
    use_when = "Rarely: OpenVINO has the same kernels and a compiler around them."
    limits = "Few fusions; it is hardly maintained."
    source = "https://onnxruntime.ai/docs/execution-providers/oneDNN-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "use_arena": Option("keep freed memory for the next tensors", "switch", "1"),
    }
