"""Rockchip NPUs."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Rknpu(Provider):
    """Rockchip NPUs."""

    title = "RknpuExecutionProvider"
    hardware = "RK1808 and kin."
    needs = "A build with `--use_rknpu`."
    use_when = "A model runs on such a board."
    limits = "Few operators."
    source = (
        "https://onnxruntime.ai/docs/execution-providers/community-maintained/RKNPU-"
        "ExecutionProvider.html"
    )
    options: ClassVar[dict[str, Option]] = {}
