"""NVIDIA GPUs through CUDA."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Cuda(Provider):
    """NVIDIA GPUs through CUDA and cuDNN.

    Options that hold addresses in this process (`user_compute_stream`, `gpu_external_alloc` and
    the like) cannot be told in text and are refused.
    """

    title = "CUDAExecutionProvider"
    aliases = ("gpu",)
    package = "onnxruntime-gpu"
    hardware = "NVIDIA GPUs."
    needs = (
        "`onnxruntime-gpu` in the place of `onnxruntime`, with the CUDA and cuDNN major versions "
        "that it was built for; `pip install onnxruntime-gpu[cuda,cudnn]` brings them."
    )
    use_when = (
        "Batches or models are large, shapes change between calls, or TensorRT refuses the model."
    )
    limits = (
        "Inputs and outputs are copied over the bus at every call. Integer QDQ graphs are not "
        "fused: int8 is slower than float16 here, and TensorRT's own. Nodes without a kernel run "
        "on the CPU, with copies around them. The first call of each new shape searches cuDNN's "
        "algorithms, so warm up with the shapes that you serve."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "device_id": Option("which GPU", "integer", "0"),
        "gpu_mem_limit": Option(
            "the most memory that its arena may take; the process takes more beside it",
            "bytes",
            "all",
        ),
        "arena_extend_strategy": Option(
            "how the arena grows: to the next power of two, or by just what is asked",
            "choice",
            "kNextPowerOfTwo",
            ("kNextPowerOfTwo", "kSameAsRequested"),
        ),
        "cudnn_conv_algo_search": Option(
            "how cuDNN's convolutions are chosen: by trying all, by a rule, or the default one",
            "choice",
            "EXHAUSTIVE",
            ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
        ),
        "cudnn_conv_use_max_workspace": Option(
            "let cuDNN take all the workspace that its fastest algorithm needs", "switch", "1"
        ),
        "cudnn_conv1d_pad_to_nc1d": Option(
            "pad one-dimensional convolutions as [N,C,1,D] and not [N,C,D,1]", "switch", "0"
        ),
        "do_copy_in_default_stream": Option(
            "copy in the stream that computes; off may race", "switch", "1"
        ),
        "enable_cuda_graph": Option(
            "record the kernels once and replay them; shapes and addresses must stay", "switch", "0"
        ),
        "enable_skip_layer_norm_strict_mode": Option(
            "compute SkipLayerNormalization in float32: closer, slower", "switch", "0"
        ),
        "prefer_nhwc": Option("convolutions with channels last, for tensor cores", "switch", "0"),
        "use_tf32": Option("TensorFloat-32 for float32 products (Ampere and later)", "switch", "1"),
        "fuse_conv_bias": Option("convolution, bias and activation in one kernel", "switch", "0"),
        "sdpa_kernel": Option("which attention kernels may run, as a sum of flags", "integer", "0"),
        "tunable_op_enable": Option("use kernels that were tuned", "switch", "0"),
        "tunable_op_tuning_enable": Option("tune kernels as they are met", "switch", "0"),
        "tunable_op_max_tuning_duration_ms": Option(
            "the most milliseconds to tune one kernel", "integer", "0"
        ),
        "use_ep_level_unified_stream": Option("one stream for all threads", "switch", "0"),
    }
