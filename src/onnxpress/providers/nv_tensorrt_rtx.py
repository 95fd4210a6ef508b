"""GeForce RTX GPUs on PCs through TensorRT for RTX."""

from __future__ import annotations

from onnxpress.provider import Provider


class NvTensorRtRtx(Provider):
    """GeForce RTX GPUs on PCs through TensorRT for RTX."""

    title = "NvTensorRTRTXExecutionProvider"
    hardware = "GeForce RTX 20 and later."
    needs = "A build with it, or Windows ML."
    use_when = "A PC application on RTX: small library, builds in seconds."
    limits = "Not for data-centre GPUs; use TensorRT there."
    source = "https://onnxruntime.ai/docs/execution-providers/TensorRTRTX-ExecutionProvider.html"
