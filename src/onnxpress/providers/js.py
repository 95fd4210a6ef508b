"""GPUs in the browser, from JavaScript."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Js(Provider):
    """GPUs in the browser, from JavaScript."""

    title = "JsExecutionProvider"
    hardware = "What a browser offers."
    needs = "onnxruntime-web."
    use_when = "In a browser; WebGPU is its successor."
    limits = "Not in Python."
    source = "https://onnxruntime.ai/docs/tutorials/web/ep-webgpu.html"
    options: ClassVar[dict[str, Option]] = {}
