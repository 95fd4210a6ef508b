"""Apple's hardware through Core ML."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class CoreMl(Provider):
    """Apple's Neural Engine, GPU and CPU through Core ML."""

    title = "CoreMLExecutionProvider"
    package = "onnxruntime"
    hardware = "Macs, iPhones and iPads; the Neural Engine of A12, M1 and later."
    needs = "macOS 10.15 or iOS 13 (MLProgram: macOS 12, iOS 15); the macOS wheel has it."
    use_when = "A vision model of fixed shapes runs on Apple hardware."
    limits = (
        "The GPU and the Neural Engine compute in float16. Neither format takes all operators, "
        "MLProgram more of them: many small islands on the CPU cost more than they gain. "
        "Compiling takes seconds unless `ModelCacheDirectory` keeps it."
    )
    source = "https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {
        "ModelFormat": Option(
            "what it is compiled to", "choice", "NeuralNetwork", ("MLProgram", "NeuralNetwork")
        ),
        "MLComputeUnits": Option(
            "what may compute",
            "choice",
            "ALL",
            ("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"),
        ),
        "RequireStaticInputShapes": Option("take only nodes of fixed shapes", "switch", "0"),
        "EnableOnSubgraphs": Option("take bodies of Loop, Scan and If, too", "switch", "0"),
        "SpecializationStrategy": Option(
            "compile for a quick load or for quick predictions",
            "choice",
            "Default",
            ("Default", "FastPrediction"),
        ),
        "ProfileComputePlan": Option("log which unit each operator gets", "switch", "0"),
        "AllowLowPrecisionAccumulationOnGPU": Option("sum in float16 on the GPU", "switch", "0"),
        "ModelCacheDirectory": Option("where compiled models are kept", "path"),
    }
