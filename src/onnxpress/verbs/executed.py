"""What a session really computed in, as one phrase and as a share of the work."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from onnxpress.engine import Executed

COMPUTE = re.compile(
    r"conv(?!ert)|matmul|gemm|innerproduct|fullyconnected|attention|^mha$|lstm|gru|rnn|einsum"
    r"|qkvprojection|mlp",
    re.IGNORECASE,
)
"""The kernels that multiply and add, by their names in ONNX Runtime and OpenVINO."""

UNKNOWN = "unknown"


def compute_kernels(executed: Sequence[Executed]) -> list[Executed]:
    """The kernels where the arithmetic is: convolution, matrix product, attention, recurrence."""
    return [kernel for kernel in executed if COMPUTE.search(kernel.op)]


def summary(executed: Sequence[Executed]) -> str:
    """``int8 (20 of 21 layers)``: each precision with its share of the compute kernels.

    The rest is float32 where nothing else is said; one precision alone has no share:
    ``bfloat16``. Without compute kernels (trees, say) the most frequent floating-point type of
    all kernels counts; ``unknown`` where the engine does not tell.
    """
    counts = Counter(kernel.precision for kernel in compute_kernels(executed))
    if not counts:
        floats = Counter(k.precision for k in executed if "float" in k.precision)
        return floats.most_common(1)[0][0] if floats else UNKNOWN
    if len(counts) == 1:
        return next(iter(counts))
    total = counts.total()
    del counts["float32"]
    return ", ".join(f"{name} ({count} of {total} layers)" for name, count in counts.most_common())


def int8_macs_share(executed: Sequence[Executed], macs: Mapping[str, int]) -> float:
    """The share of the multiply-adds in ``macs`` (layer → count) that ran as int8, 0 to 1."""
    total = sum(macs.values())
    int8 = {
        layer
        for kernel in compute_kernels(executed)
        if kernel.precision == "int8"
        for layer in kernel.layers
    }
    return sum(macs.get(layer, 0) for layer in int8) / total if total else 0.0
