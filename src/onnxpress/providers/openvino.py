"""Intel's hardware through OpenVINO, inside of ONNX Runtime."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class OpenVino(Provider):
    """Intel CPUs, GPUs and NPUs through OpenVINO, inside of ONNX Runtime."""

    title = "OpenVINOExecutionProvider"
    package = "onnxruntime-openvino"
    hardware = "Intel CPUs, integrated and Arc GPUs, NPUs of Core Ultra."
    needs = "`onnxruntime-openvino` in the place of `onnxruntime`; drivers for GPU and NPU."
    use_when = (
        "A program speaks ONNX Runtime and must stay with it. onnxpress runs OpenVINO itself "
        "(`--engine openvino`), without the way through ONNX Runtime."
    )
    limits = "The NPU takes fixed shapes only. What OpenVINO does not take runs on the CPU."
    source = "https://onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html"
    switch = ("False", "True")
    options: ClassVar[dict[str, Option]] = {
        "device_type": Option("`CPU`, `GPU`, `GPU.1`, `NPU`, `AUTO:GPU,CPU`, `HETERO:NPU,CPU`"),
        "precision": Option(
            "what it computes in; ACCURACY is the file's own types",
            "choice",
            "by device",
            ("FP32", "FP16", "ACCURACY"),
        ),
        "num_of_threads": Option("threads of the CPU", "integer", "8"),
        "num_streams": Option("runs at once", "integer", "1"),
        "cache_dir": Option("where compiled models are kept", "path"),
        "load_config": Option("a JSON file of OpenVINO's own properties by device", "path"),
        "model_priority": Option(
            "which model goes first on a shared device",
            "choice",
            "DEFAULT",
            ("LOW", "MEDIUM", "HIGH", "DEFAULT"),
        ),
        "enable_qdq_optimizer": Option("int8 QDQ graphs in the NPU's own way", "switch", "False"),
        "disable_dynamic_shapes": Option("compile for the shapes of each call", "switch", "False"),
        "enable_opencl_throttling": Option("less CPU time while the GPU works", "switch", "False"),
        "reshape_input": Option("shapes to compile for: `x[1,3,60..80]`"),
        "layout": Option("layouts of inputs: `x[NCHW]`"),
    }
