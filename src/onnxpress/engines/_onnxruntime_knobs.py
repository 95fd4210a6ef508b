"""What of ONNX Runtime's sessions is worth trying otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpress.engine import Knob
from onnxpress.machine import Machine


def knobs(machine: Machine, objective: str) -> Sequence[Knob]:
    """The ones that matter most first; with one core there are no threads to try.

    Nodes side by side and several runs at once divide the cores among them.
    """
    usual, *fewer = machine.thread_counts
    parts = machine.equal_parts
    found = [Knob("threads", tuple({"threads": str(count)} for count in fewer))]
    if objective == "throughput":
        found.append(
            Knob(
                "runs at once",
                tuple({"requests": str(n), "threads": str(usual // n)} for n in parts),
            )
        )
    found += [
        Knob("spinning", ({"session.intra_op.allow_spinning": "0"},)),
        Knob(
            "optimisation level",
            tuple({"graph_optimization_level": level} for level in ("extended", "basic")),
        ),
        Knob(
            "execution mode",
            tuple(
                {
                    "execution_mode": "parallel",
                    "inter_op_num_threads": str(n),
                    "threads": str(usual // n),
                }
                for n in parts[:1]
            ),
        ),
        Knob("memory pattern", ({"enable_mem_pattern": "false"},)),
        Knob("memory arena", ({"enable_cpu_mem_arena": "false"},)),
    ]
    return [knob for knob in found if knob.values]
