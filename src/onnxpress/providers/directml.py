"""GPUs on Windows through DirectML."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class DirectMl(Provider):
    """Any DirectX 12 GPU on Windows through DirectML."""

    title = "DmlExecutionProvider"
    package = "onnxruntime-directml"
    hardware = "GPUs (and some NPUs) with DirectX 12: NVIDIA, AMD, Intel, Qualcomm."
    needs = "Windows 10 1903 or later, and `onnxruntime-directml` in the place of `onnxruntime`."
    use_when = "An application on Windows must run on whatever GPU is there."
    limits = (
        "One run at a time per session; memory pattern and parallel execution must be off "
        "(`--session enable_mem_pattern=false`). Free dimensions are slow: fix them "
        "(`onnxpress optimize --fix`). It is maintained, but no longer developed."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/DirectML-ExecutionProvider.html"
    switch = ("false", "true")
    options: ClassVar[dict[str, Option]] = {
        "device_id": Option("which adapter, as Windows lists them", "integer", "0"),
        "performance_preference": Option(
            "which adapter where none is named",
            "choice",
            "default",
            ("default", "high_performance", "minimum_power"),
        ),
        "device_filter": Option("kinds of devices", "choice", "gpu", ("gpu", "npu", "any")),
        "disable_metacommands": Option("leave the drivers' own kernels out", "switch", "false"),
        "enable_graph_capture": Option("record the commands and replay them", "switch", "false"),
    }
