"""What a profile says, in a few sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onnxpress.verbs.profiled import Node, Profiled, Rate

WORDS = {
    "conv": "convolution",
    "lstm": "recurrence",
    "gru": "recurrence",
    "rnn": "recurrence",
    "attention": "attention kernel",
    "mha": "attention kernel",
}
"""Parts of kernels' names, and what such a kernel computes; any other one is a product."""
WORTH = 0.03
"""The share of the time from which an operator that multiplies nothing is told."""
LAGS = 0.5
"""What is below so much of the rate of all that multiplies is told."""
UNTOLD = 0.1
"""The share of a run outside kernels that is told; the run with the profiler must have it too."""


def verdict(found: Profiled) -> tuple[str, ...]:
    """The share and the rate of what multiplies, the slowest that does not, what lags behind."""
    whole = found.rate(found.nodes)
    linear = [node for node in found.nodes if node.rate.macs]
    told = []
    if linear and whole.ms > 0:
        rate = found.rate(linear)
        reach = "reaches" if len(linear) == 1 else "reach"
        told.append(
            f"{rate.share:.0%} of the time is in {_counted(linear)} that {reach} "
            f"{rate.peak_share or 0:.0%} of the peak ({rate.gflops or 0:.3g} of "
            f"{found.peak_gflops:.3g} GFLOP/s in float32)"
        )
        told += _lagging(found, linear)
    others = [one for one in found.by_op if not one.rate.macs and one.rate.share >= WORTH]
    if others:
        names = [f"'{one.name}' takes {one.rate.share:.0%}" for one in others[:2]]
        ending = "multiplies nothing" if len(names) == 1 else "multiply nothing"
        told.append(f"{' and '.join(names)}, which {ending}")
    between = min(found.total_ms, found.profiled_ms) - found.nodes_ms
    if between > UNTOLD * found.total_ms:
        told.append(
            f"{between / found.total_ms:.0%} of a run is spent between kernels ({between:.3g} ms)"
        )
    return tuple(f"{sentence[0].upper()}{sentence[1:]}." for sentence in told)


def _lagging(found: Profiled, linear: Sequence[Node]) -> list[str]:
    """What would gain most, were it as fast as all that multiplies: one kernel or one operator."""
    together = found.rate(linear).gflops or 0.0

    def gain(rate: Rate) -> float:
        lag = (rate.gflops or 0.0) / together if together else 1.0
        return rate.ms * (1 - lag) if lag < LAGS else 0.0

    kernels = [(gain(one.rate), f"{one.name} ({one.op}) takes", one.rate) for one in linear]
    operators = [
        (gain(one.rate), f"{one.count} '{one.name}' take", one.rate)
        for one in found.by_op
        if one.rate.macs and one.count > 1
    ]
    most, name, rate = max((*operators, *kernels), key=lambda told: told[0])
    if most < WORTH * found.nodes_ms:
        return []
    return [
        f"slow for what {'it does' if name.endswith('s') else 'they do'}: {name} "
        f"{rate.share:.0%} at {rate.peak_share or 0:.0%} of the peak"
    ]


def _counted(nodes: Sequence[Node]) -> str:
    """``24 matrix products and 2 convolutions``."""
    kinds = Counter(
        next((word for key, word in WORDS.items() if key in node.op.lower()), "matrix product")
        for node in nodes
    )
    told = [f"{count} {kind}{'s' * (count > 1)}" for kind, count in kinds.most_common()]
    return " and ".join(told)
