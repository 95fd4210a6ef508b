"""Why a quantised model is not faster than the float one, as far as the measurements tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from onnxpress.engine import Executed
from onnxpress.machine import Machine
from onnxpress.verbs.executed import compute_kernels

TINY_MS = 0.3
"""A run that takes so long at most is mostly calls and waiting, whatever the arithmetic is."""
FEW = 0.5
"""A smaller share of the work in int8 gains little; so do conversions for more of the layers."""
CONVERSIONS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Cast",
    "Convert",
    "FakeQuantize",
)
"""Kernels of ONNX Runtime and OpenVINO that only change the type of a tensor."""


def conversions(executed: Sequence[Executed]) -> Mapping[str, int]:
    """How many of each of ``CONVERSIONS`` an engine runs, the most frequent first."""
    return dict(Counter(k.op for k in executed if k.op in CONVERSIONS).most_common())


def why_not_faster(
    machine: Machine,
    float_ms: float,
    executed: Sequence[Executed],
    int8_share: float | None,
    *,
    integers: bool,
) -> str:
    """A clause, such as ``this CPU has no int8 dot product (VNNI)``.

    ``float_ms`` is the float model's latency, ``executed`` are the kernels of the quantised one,
    ``int8_share`` is the share of the multiply-adds that ran in int8 (None where they need not),
    ``integers`` tells whether the weights are integers.
    """
    found, layers = conversions(executed), compute_kernels(executed)
    told = ", ".join(f"{count} {op}" for op, count in found.items())
    if int8_share is not None and int8_share < FEW:
        return f"the engine ran {int8_share:.0%} of the multiply-adds in int8"
    if float_ms <= TINY_MS:
        return f"a run takes {float_ms:.2g} ms: too little arithmetic to gain on"
    if sum(found.values()) > FEW * len(layers):
        return f"beside its {len(layers)} layers the engine converts numbers: {told}"
    if integers and not machine.fast_int8:
        return "this CPU has no int8 dot product (VNNI), so int8 gains little"
    precisions = {kernel.precision for kernel in layers}
    if precisions == {"float32"}:
        return "the engine computes in float32 all the same"
    return "its kernels take as long here as those in float32 do"
