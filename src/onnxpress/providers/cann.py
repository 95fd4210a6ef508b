"""Huawei's Ascend NPUs through CANN."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Cann(Provider):
    """Huawei's Ascend NPUs through CANN."""

    title = "CANNExecutionProvider"
    package = "onnxruntime-cann"
    hardware = "Ascend 310 and 910."
    needs = "CANN, and a build with `--use_cann` or `onnxruntime-cann`."
    use_when = "A model runs on Ascend."
    limits = "Compiles subgraphs for fixed shapes."
    source = (
        "https://onnxruntime.ai/docs/execution-providers/community-maintained/CANN-"
        "ExecutionProvider.html"
    )
    options: ClassVar[dict[str, Option]] = {
        "device_id": Option("which NPU", "integer", "0"),
        "npu_mem_limit": Option("memory that it may take", "bytes", "all"),
        "arena_extend_strategy": Option(
            "how the arena grows",
            "choice",
            "kNextPowerOfTwo",
            ("kNextPowerOfTwo", "kSameAsRequested"),
        ),
        "enable_cann_graph": Option(
            "compile subgraphs in the place of single nodes", "switch", "1"
        ),
        "enable_cann_subgraph": Option("also parts of a graph, not the whole alone", "switch", "0"),
        "dump_graphs": Option("write the subgraphs as ONNX files", "switch", "0", writes=True),
        "dump_om_model": Option("write the compiled models", "switch", "1", writes=True),
        "precision_mode_v2": Option("how types are chosen, such as `fp16`"),
        "op_select_impl_mode": Option(
            "kernels", "choice", "", ("high_precision", "high_performance")
        ),
        "optypelist_for_implmode": Option("the operators that it is for"),
        "input_format": Option("the layout of inputs, such as `NCHW`"),
        "dynamic_batch_size": Option("batches to compile for, such as `1,4,8`"),
        "dynamic_image_size": Option("sizes of images to compile for"),
        "dynamic_dims": Option("free dimensions to compile for"),
    }
