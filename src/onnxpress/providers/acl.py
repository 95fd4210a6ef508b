"""ARM CPUs through Arm Compute Library."""

from __future__ import annotations

from typing import ClassVar

from onnxpress.provider import Option, Provider


class Acl(Provider):
    """ARM CPUs through Arm Compute Library."""

    title = "ACLExecutionProvider"
    hardware = "ARM Cortex-A CPUs."
    needs = "A build with `--use_acl`."
    use_when = "A vendor's build has it and it measures faster than the CPU provider there."
    limits = "Few operators, float32 and fixed shapes."
    source = (
        "https://onnxruntime.ai/docs/execution-providers/community-maintained/ACL-"
        "ExecutionProvider.html"
    )
    options: ClassVar[dict[str, Option]] = {
        "enable_fast_math": Option("faster products at some loss of accuracy", "switch", "false"),
    }
    switch = ("false", "true")
