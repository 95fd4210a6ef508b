"""Values that float16 cannot hold: larger than 65504, or all so small that they become 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from onnxpress.finding import ANYWHERE, Check, Finding, Target
from onnxpress.model import Model
from onnxpress.values import all_values, constant_tensor, is_op

LARGEST, SMALLEST = 65504.0, 2.0**-24
"""The largest number of IEEE 754 binary16, and the smallest above 0 (a subnormal)."""
WIDER = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
OVERFLOWS = (
    "before a conversion to float16 clamp it to ±65504 or keep what reads it in float32; "
    "bfloat16 has float32's range"
)
VANISHES = (
    "before a conversion to float16 enlarge it (an epsilon of 1e-6 stays), or keep what reads it "
    "in float32"
)


class NumericRange(Check):
    """Looks at constants, and at activations where they were watched on samples."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        told = [finding for value in _constants(model) for finding in _of_constant(value)]
        for name, span in target.ranges.items():
            most = max(abs(span.low), abs(span.high))
            seen = f"takes values from {span.low:.4g} to {span.high:.4g} on the samples"
            if most > LARGEST:
                told.append(_finding(name, f"{seen}: infinite in float16", OVERFLOWS))
            elif 0 < most < SMALLEST:
                told.append(_finding(name, f"{seen}: all 0 in float16", VANISHES))
        return told


def _constants(model: Model) -> Iterator[ir.Value]:
    """Each constant once; not the bounds of Clip, where infinity means no bound as well."""
    for value in dict.fromkeys(all_values(model.ir.graphs())):
        uses = value.uses()
        if uses and all(is_op(node, "Clip") and index > 0 for node, index in uses):
            continue
        yield value


def _of_constant(value: ir.Value) -> Iterator[Finding]:
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype not in WIDER or not tensor.size:
        return
    numbers = np.abs(tensor.numpy().astype(np.float32 if tensor.dtype == WIDER[2] else None))
    most = float(np.max(numbers, initial=0.0, where=np.isfinite(numbers)))
    name = str(value.name)
    if most > LARGEST:
        count = int(((numbers > LARGEST) & np.isfinite(numbers)).sum())
        told = f"{count} of {numbers.size} values are" if numbers.size > 1 else "the value is"
        yield _finding(name, f"{told} infinite in float16, up to ±{most:.4g}", OVERFLOWS)
    elif 0 < most < SMALLEST:
        yield _finding(name, f"becomes 0 in float16, the largest value is ±{most:.4g}", VANISHES)


def _finding(where: str, what: str, fix: str) -> Finding:
    return Finding("numeric_range", "warning", where, "", what, fix)
