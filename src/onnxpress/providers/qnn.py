"""Qualcomm's NPUs."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider

MODES = (
    "default", "burst", "balanced", "high_performance", "sustained_high_performance",
    "low_balanced", "low_power_saver", "power_saver", "high_power_saver", "extreme_power_saver",
)  # fmt: skip


class Qnn(Provider):
    """Qualcomm's Hexagon NPUs (HTP) through the AI Engine Direct SDK."""

    title = "QNNExecutionProvider"
    package = "onnxruntime-qnn"
    hardware = "Snapdragon: Windows on ARM, Android, Linux boards."
    needs = "`onnxruntime-qnn` in the place of `onnxruntime`."
    use_when = "An int8 or int16 model of fixed shapes must run with little power."
    limits = (
        "The NPU runs quantised QDQ graphs (uint8 or uint16 activations) and float16; shapes must "
        "be fixed. The first load compiles for minutes: keep it with "
        "`--session ep.context_enable=1`."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "backend_type": Option(
            "what runs it", "choice", "htp", ("cpu", "gpu", "htp", "saver", "ir")
        ),
        "backend_path": Option("the backend's library, in the place of `backend_type`", "path"),
        "htp_performance_mode": Option("power against speed", "choice", "default", MODES),
        "htp_graph_finalization_optimization_mode": Option(
            "how long the compiler searches", "choice", "0", ("0", "1", "2", "3")
        ),
        "enable_htp_fp16_precision": Option("run float32 models in float16", "switch", "1"),
        "htp_arch": Option("Hexagon's generation: 68, 69, 73, 75, 81", "integer", "0"),
        "soc_model": Option("the chip's number", "integer", "0"),
        "device_id": Option("which NPU", "integer", "0"),
        "vtcm_mb": Option("its fast memory, in MB", "integer", "0"),
        "rpc_control_latency": Option("how long it stays awake, in µs", "integer", "0"),
        "qnn_context_priority": Option(
            "against other programs", "choice", "normal", ("low", "normal", "normal_high", "high")
        ),
        "offload_graph_io_quantization": Option(
            "quantise inputs and outputs on the CPU", "switch", "1"
        ),
        "enable_htp_spill_fill_buffer": Option("contexts share spilled memory", "switch", "0"),
        "enable_htp_shared_memory_allocator": Option("no copies to the NPU", "switch", "0"),
        "enable_vtcm_backup_buffer_sharing": Option("contexts share that buffer", "switch", "0"),
        "profiling_level": Option(
            "what it records", "choice", "off", ("off", "basic", "detailed", "optrace")
        ),
        "profiling_file_path": Option("where to", "path"),
        "qnn_saver_path": Option("record all calls for Qualcomm's tools with this library", "path"),
        "op_packages": Option("operators of your own: `Type:library:interface[:target]`", "path"),
        "skip_qnn_version_check": Option("run with another version of the SDK", "switch", "0"),
        "dump_json_qnn_graph": Option("write the graph as JSON", "switch", "0", writes=True),
        "json_qnn_graph_dir": Option("where to", "path"),
        "dump_qnn_ir_dlc": Option("write the graph as a .dlc file", "switch", "0", writes=True),
        "dump_qnn_ir_dlc_dir": Option("where to", "path"),
        "qnn_ir_backend_path": Option("the library that writes it", "path"),
    }
