"""VeriSilicon NPUs through TIM-VX."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class VsiNpu(Provider):
    """VeriSilicon NPUs through TIM-VX."""

    title = "VSINPUExecutionProvider"
    hardware = "NXP i.MX 8M Plus, Amlogic A311D."
    needs = "A build with `--use_vsinpu`."
    use_when = "A model runs on such a board."
    limits = "uint8 models of fixed shapes."
    source = "https://onnxruntime.ai/docs/execution-providers/community-maintained/"
    options: ClassVar[dict[str, Option]] = {}
