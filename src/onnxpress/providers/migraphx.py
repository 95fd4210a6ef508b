"""AMD GPUs through MIGraphX."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class MiGraphX(Provider):
    """AMD GPUs through ROCm and MIGraphX, which compiles the graph."""

    title = "MIGraphXExecutionProvider"
    aliases = ("amd",)
    package = "onnxruntime-migraphx"
    hardware = "AMD Instinct and Radeon GPUs that ROCm supports."
    needs = "ROCm with MIGraphX, and `onnxruntime-migraphx` in the place of `onnxruntime`."
    use_when = "A model runs on AMD GPUs; the ROCm provider was removed in ONNX Runtime 1.23."
    limits = "Each new shape is compiled anew, for minutes: keep them in a cache folder."
    source = "https://onnxruntime.ai/docs/execution-providers/MIGraphX-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "device_id": Option("which GPU", "integer", "0"),
        "migraphx_fp16_enable": Option("allow float16", "switch", "0"),
        "migraphx_bf16_enable": Option("allow bfloat16", "switch", "0"),
        "migraphx_fp8_enable": Option("allow float8", "switch", "0"),
        "migraphx_int8_enable": Option("allow int8", "switch", "0"),
        "migraphx_int8_calibration_table_name": Option("the table's file", "path"),
        "migraphx_int8_use_native_calibration_table": Option(
            "the table is MIGraphX's own", "switch", "0"
        ),
        "migraphx_model_cache_dir": Option("where compiled models are kept", "path"),
        "migraphx_exhaustive_tune": Option("try all kernels as it compiles", "switch", "0"),
        "migraphx_mem_limit": Option("the most memory that the arena may take", "bytes", "all"),
        "migraphx_arena_extend_strategy": Option(
            "how the arena grows",
            "choice",
            "kNextPowerOfTwo",
            ("kNextPowerOfTwo", "kSameAsRequested"),
        ),
    }
