"""Why a model in int8 is not faster than in float, as far as the measurements tell."""

from __future__ import annotations

from onnxpress.machine import Machine

TINY_MS = 0.3
"""A run that takes so long at most is mostly calls and waiting, whatever the arithmetic is."""
FEW = 0.5
"""A smaller share of the work in int8 gains little."""


def why_not_faster(
    machine: Machine, float_ms: float, int8_share: float | None, size_ratio: float
) -> str:
    """A clause, such as ``this CPU has no int8 dot product (VNNI)``.

    ``float_ms`` is the float model's latency, ``int8_share`` the share of the multiply-adds that
    ran in int8 (None where it is not known), ``size_ratio`` the quantised file's size over the
    float one's.
    """
    if int8_share is not None and int8_share < FEW:
        return f"the engine ran {int8_share:.0%} of the multiply-adds in int8"
    if float_ms <= TINY_MS:
        return f"a run takes {float_ms:.2g} ms: too little arithmetic for int8 to pay"
    if not machine.fast_int8:
        return "this CPU has no int8 dot product (VNNI), so int8 gains little"
    if size_ratio > 0.9:
        return "hardly any weight got smaller: activations bound the time"
    return "rounding the activations costs what the products gain"
