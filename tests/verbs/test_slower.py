"""The reason why int8 is not faster is the first that the measurements show."""

from __future__ import annotations

import dataclasses

import pytest

from onnxpress.engine import Executed
from onnxpress.machine import Machine, this_machine
from onnxpress.verbs.slower import conversions, why_not_faster

NEW = dataclasses.replace(this_machine(), architecture="x86_64", isa=("AVX2", "AVX512_VNNI"))
OLD = dataclasses.replace(NEW, isa=("AVX2",))


CONV = [Executed(f"c{i}", "Conv", "int8", (f"c{i}",)) for i in range(4)]
PLAIN = [dataclasses.replace(kernel, precision="float32") for kernel in CONV]
EXPANDED = [*PLAIN, *(Executed(f"d{i}", "DequantizeLinear", "float32") for i in range(4))]
EDGES = [*CONV, Executed("q", "QuantizeLinear", "int8"), Executed("d", "Cast", "float32")]


@pytest.mark.parametrize(
    ("machine", "float_ms", "executed", "share", "integers", "told"),
    [
        (NEW, 10.0, CONV, 0.2, True, "the engine ran 20% of the multiply-adds in int8"),
        (OLD, 0.1, CONV, 1.0, True, "a run takes 0.1 ms: too little arithmetic"),
        (OLD, 10.0, EDGES, 1.0, True, "no int8 dot product (VNNI)"),
        (OLD, 10.0, EXPANDED, None, True, "its 4 layers the engine converts numbers: 4 Dequant"),
        (OLD, 10.0, PLAIN, None, False, "the engine computes in float32 all the same"),
        (NEW, 10.0, EDGES, 1.0, True, "its kernels take as long here"),
        (NEW, 10.0, [], None, True, "its kernels take as long here"),
    ],
)
def test_reasons(
    machine: Machine,
    float_ms: float,
    executed: list[Executed],
    share: float | None,
    integers: bool,
    told: str,
) -> None:
    assert told in why_not_faster(machine, float_ms, executed, share, integers=integers)


def test_conversions_are_counted() -> None:
    assert conversions(EDGES) == {"QuantizeLinear": 1, "Cast": 1}
    assert conversions(CONV) == {}
