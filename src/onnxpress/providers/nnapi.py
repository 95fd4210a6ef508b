"""Android's accelerators through NNAPI."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Nnapi(Provider):
    """Android's GPUs, DSPs and NPUs through the Neural Networks API.

    Its flags (float16, NCHW, no CPU) are set in C, C++ and Java; from Python it has no options.
    """

    title = "NnapiExecutionProvider"
    hardware = "Phones with Android 8.1 or later; 9 or later is faster."
    needs = "An Android build of ONNX Runtime (Maven: `onnxruntime-android`)."
    use_when = "An older phone must run a quantised CNN; newer ones have QNN or XNNPACK."
    limits = "Android 15 deprecates NNAPI. Shapes must be fixed; drivers differ in what they take."
    source = "https://onnxruntime.ai/docs/execution-providers/NNAPI-ExecutionProvider.html"
    options: ClassVar[dict[str, Option]] = {}
