from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.cancel_pairs import EXACT_BITS, WHOLE, CancelPairs, holds
from zoo.graphs import apply, parse

PASS = CancelPairs()
X = np.array([-3.7, 0, 2.5, 300], np.float32)
NAMED = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64",
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Neg(x) b = Neg(a) y = Relu(b)", {"Relu": 1}),
        ("a = Neg(x) b = Neg(a) c = Neg(b) y = Relu(c)", {"Relu": 1, "Neg": 1}),
        ("a = Cast<to=11>(x) b = Cast<to=1>(a) y = Relu(b)", {"Relu": 1}),
        ("a = Cast<to=11>(x) b = Cast<to=6>(a) y = Cast<to=1>(b)", {"Cast": 2}),
        ("a = Cast<to=10>(x) b = Cast<to=1>(a) y = Relu(b)", {"Relu": 1, "Cast": 2}),
        ("a = Neg(x) b = Neg(a) y = Mul(b, a)", {"Mul": 1, "Neg": 1}),
    ],
)
def test_floats(body: str, left: dict[str, int]) -> None:
    model = parse(f"(float[n] x) => (float[n] y) {{ {body} }}")
    assert apply(PASS, model, {"x": X})[0].op_counts() == left


def test_booleans() -> None:
    model = parse("(bool[n] x) => (bool[n] y) { a = Not(x) b = Not(a) y = And(b, x) }")
    assert apply(PASS, model, {"x": X > 0})[0].op_counts() == {"And": 1}


def test_what_loses_numbers_stays_and_is_no_missed_fusion() -> None:
    model = parse("(float[n] x) => (float[n] y) { a = Cast<to=10>(x) y = Cast<to=1>(a) }")
    after, change = apply(PASS, model, {"x": X})
    assert after.op_counts() == {"Cast": 2}
    assert change.missed == ()


def test_an_input_is_no_output() -> None:
    model = parse("(float[n] x) => (float[n] y) { a = Neg(x) y = Neg(a) }")
    assert not apply(PASS, model)[1].changed


@pytest.mark.parametrize("narrow", WHOLE)
def test_the_types_that_hold_each_other(narrow: ir.DataType) -> None:
    numbers = [True, False]
    if narrow != ir.DataType.BOOL:
        info = np.iinfo(narrow.numpy())
        numbers = [info.min, info.min + 1, 0, info.max - 1, info.max]
    array = np.array(numbers, narrow.numpy())
    for wide in (*WHOLE, *EXACT_BITS):
        if wide == ir.DataType.BOOL:
            continue
        if holds(wide, narrow):
            back = [
                int(number) if wide in WHOLE else int(float(number))
                for number in array.astype(wide.numpy())
            ]
            assert back == [int(number) for number in numbers]


@settings(max_examples=40, deadline=None)
@given(
    start=st.sampled_from([2, 3, 5, 6, 9]),
    casts=st.lists(st.sampled_from([2, 3, 5, 6, 7, 9, 1, 10, 11]), min_size=1, max_size=4),
    numbers=st.lists(st.integers(0, 127), min_size=1, max_size=5),
)
def test_any_casts(start: int, casts: list[int], numbers: list[int]) -> None:
    text = "".join(f"v{i + 1} = Cast<to={to}>(v{i}) " for i, to in enumerate(casts))
    end = NAMED[casts[-1]]
    model = parse(
        f"({NAMED[start]}[n] v0) => ({end}[n] y) {{ {text} y = Identity(v{len(casts)}) }}"
    )
    after, _ = apply(PASS, model, {"v0": np.array(numbers).astype(ir.DataType(start).numpy())})
    pairs = itertools.pairwise([ir.DataType(start), *map(ir.DataType, casts)])
    if all(holds(wide, narrow) for narrow, wide in pairs):
        assert after.op_counts().get("Cast", 0) <= 1
