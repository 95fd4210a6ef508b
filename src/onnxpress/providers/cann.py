"""Huawei's Ascend NPUs through CANN."""

from __future__ import annotations

from onnxpress.provider import Provider


class Cann(Provider):
    """Huawei's Ascend NPUs through CANN."""

    title = "CANNExecutionProvider"
    package = "onnxruntime-cann"
    hardware = "Ascend 310 and 910."
    needs = "CANN, and a build with `--use_cann` or `onnxruntime-cann`."
    use_when = "A model runs on Ascend."
    limits = "Compiles subgraphs for fixed shapes."
    source = (
        "https://onnxruntime.ai/docs/execution-providers/community-maintained/CANN-"
        "ExecutionProvider.html"
    )
