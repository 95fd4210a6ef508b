"""GPUs through WebGPU, in browsers and natively."""

from __future__ import annotations

from onnxpress.provider import Provider


class WebGpu(Provider):
    """GPUs through WebGPU, in browsers and natively."""

    title = "WebGpuExecutionProvider"
    package = "onnxruntime-webgpu"
    hardware = "GPUs with Vulkan, Metal or Direct3D 12."
    needs = "onnxruntime-web, or a build with `--use_webgpu`."
    use_when = "One program must run on any GPU."
    limits = "Young; fewer operators than CUDA."
    source = "https://onnxruntime.ai/docs/tutorials/web/ep-webgpu.html"
