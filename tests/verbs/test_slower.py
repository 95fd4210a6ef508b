"""The reason why int8 is not faster is the first that the measurements show."""

from __future__ import annotations

import dataclasses

import pytest

from onnxpress.machine import this_machine
from onnxpress.verbs.slower import why_not_faster

NEW = dataclasses.replace(this_machine(), architecture="x86_64", isa=("AVX2", "AVX512_VNNI"))
OLD = dataclasses.replace(NEW, isa=("AVX2",))


@pytest.mark.parametrize(
    ("machine", "float_ms", "share", "ratio", "told"),
    [
        (NEW, 10.0, 0.2, 0.3, "the engine ran 20% of the multiply-adds in int8"),
        (OLD, 0.1, 1.0, 0.3, "a run takes 0.1 ms: too little arithmetic"),
        (OLD, 10.0, 1.0, 0.3, "no int8 dot product (VNNI)"),
        (NEW, 10.0, None, 0.95, "hardly any weight got smaller"),
        (NEW, 10.0, 1.0, 0.3, "rounding the activations costs"),
    ],
)
def test_reasons(machine: object, float_ms: float, share: float, ratio: float, told: str) -> None:
    assert told in why_not_faster(machine, float_ms, share, ratio)  # type: ignore[arg-type]
