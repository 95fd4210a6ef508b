"""NPUs and GPUs in the browser through WebNN."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class WebNn(Provider):
    """NPUs and GPUs in the browser through WebNN."""

    title = "WebNNExecutionProvider"
    hardware = "What a browser offers."
    needs = "onnxruntime-web."
    use_when = "In a browser with WebNN."
    limits = "Not in Python; fixed shapes."
    source = "https://onnxruntime.ai/docs/tutorials/web/ep-webnn.html"
    options: ClassVar[dict[str, Option]] = {}
