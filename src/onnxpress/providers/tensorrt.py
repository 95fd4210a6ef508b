"""NVIDIA GPUs through TensorRT."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class TensorRt(Provider):
    """NVIDIA GPUs through TensorRT, which compiles subgraphs into engines for one GPU.

    Options that hold addresses in this process (`user_compute_stream`, `trt_onnx_bytestream`)
    cannot be told in text and are refused.
    """

    title = "TensorrtExecutionProvider"
    aliases = ("trt",)
    package = "onnxruntime-gpu"
    hardware = "NVIDIA GPUs of the generations that the TensorRT release supports."
    needs = "`onnxruntime-gpu`, CUDA, cuDNN and the TensorRT libraries of the version it names."
    use_when = (
        "The shapes are few and the service runs long: float16 and int8 are fastest here, after "
        "minutes of building."
    )
    limits = (
        "The engine is built at the first call of each new shape range: keep it with "
        "`trt_engine_cache_enable` and give `trt_profile_*_shapes` for free dimensions. A cached "
        "engine fits one GPU model and one TensorRT version. What it does not take goes to CUDA "
        "and then to the CPU."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "device_id": Option("which GPU", "integer", "0"),
        "trt_max_workspace_size": Option("memory for building", "bytes", "all"),
        "trt_fp16_enable": Option("allow float16", "switch", "0"),
        "trt_bf16_enable": Option("allow bfloat16", "switch", "0"),
        "trt_int8_enable": Option("allow int8, by QDQ nodes or a calibration table", "switch", "0"),
        "trt_int8_calibration_table_name": Option("the table's file", "path"),
        "trt_int8_use_native_calibration_table": Option(
            "the table is TensorRT's own, not ONNX Runtime's", "switch", "0"
        ),
        "trt_engine_cache_enable": Option("keep built engines", "switch", "0", writes=True),
        "trt_engine_cache_path": Option("the folder of kept engines", "path"),
        "trt_engine_cache_prefix": Option("how their files begin", writes=True),
        "trt_engine_hw_compatible": Option(
            "build for all GPUs since Ampere, not for this one", "switch", "0"
        ),
        "trt_weight_stripped_engine_enable": Option(
            "keep engines without weights, and refit them", "switch", "0"
        ),
        "trt_onnx_model_folder_path": Option("where the model of such an engine is", "path"),
        "trt_timing_cache_enable": Option(
            "keep what building learnt of kernels", "switch", "0", writes=True
        ),
        "trt_timing_cache_path": Option("the folder of it", "path"),
        "trt_force_timing_cache": Option("use one of another GPU model", "switch", "0"),
        "trt_profile_min_shapes": Option("least shapes: `x:1x3x224x224,y:1x8`"),
        "trt_profile_opt_shapes": Option("shapes to be fastest at"),
        "trt_profile_max_shapes": Option("largest shapes"),
        "trt_builder_optimization_level": Option("0 to 5: how long to search", "integer", "3"),
        "trt_build_heuristics_enable": Option("build faster by rules", "switch", "0"),
        "trt_sparsity_enable": Option("use 2:4 sparse weights", "switch", "0"),
        "trt_auxiliary_streams": Option("streams beside the main one; -1: a rule", "integer", "-1"),
        "trt_tactic_sources": Option("libraries to take kernels from, such as `-CUDNN,+CUBLAS`"),
        "trt_cuda_graph_enable": Option("record the kernels and replay them", "switch", "0"),
        "trt_layer_norm_fp32_fallback": Option(
            "Pow and Reduce of layer norms in float32 under float16", "switch", "0"
        ),
        "trt_min_subgraph_size": Option("fewest nodes that are worth an engine", "integer", "1"),
        "trt_max_partition_iterations": Option("rounds of cutting the graph", "integer", "1000"),
        "trt_op_types_to_exclude": Option("operators that it leaves to others, by commas"),
        "trt_context_memory_sharing_enable": Option("engines share their memory", "switch", "0"),
        "trt_force_sequential_engine_build": Option(
            "build one engine after another", "switch", "0"
        ),
        "trt_dla_enable": Option("use the deep learning accelerator (Jetson)", "switch", "0"),
        "trt_dla_core": Option("which of them", "integer", "0"),
        "trt_dump_subgraphs": Option(
            "write the subgraphs as ONNX files", "switch", "0", writes=True
        ),
        "trt_dump_ep_context_model": Option(
            "write a model that holds the engine", "switch", "0", writes=True
        ),
        "trt_ep_context_file_path": Option("that model's file", "path"),
        "trt_ep_context_embed_mode": Option("1: the engine lies inside of it", "integer", "0"),
        "trt_engine_decryption_enable": Option("decrypt kept engines", "switch", "0"),
        "trt_engine_decryption_lib_path": Option("the library that does", "path"),
        "trt_extra_plugin_lib_paths": Option(
            "libraries of TensorRT plug-ins, by semicolons", "path"
        ),
        "trt_load_user_initializer": Option("pass weights beside the graph", "switch", "0"),
        "trt_preview_features": Option("TensorRT's preview features, by commas"),
        "trt_detailed_build_log": Option("log each step of building", "switch", "0"),
    }
