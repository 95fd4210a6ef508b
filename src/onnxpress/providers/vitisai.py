"""AMD's Ryzen AI NPUs and adaptive SoCs through Vitis AI."""

from __future__ import annotations

from onnxpress.provider import Provider


class VitisAi(Provider):
    """AMD's Ryzen AI NPUs and adaptive SoCs through Vitis AI."""

    title = "VitisAIExecutionProvider"
    package = "onnxruntime-vitisai"
    hardware = "Ryzen AI, Versal, Alveo."
    needs = "The Ryzen AI or Vitis AI software, which brings its ONNX Runtime."
    use_when = "A quantised model runs on the NPU of a Ryzen AI PC."
    limits = "QDQ int8 or bfloat16, fixed shapes; the first load compiles."
    source = "https://onnxruntime.ai/docs/execution-providers/Vitis-AI-ExecutionProvider.html"
