from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.eliminate_zero_states import EliminateZeroStates
from zoo.graphs import apply, parse

ZEROS = EliminateZeroStates()
BATCH, SIZE = 2, 3
RNG = np.random.default_rng(0)
SHAPE = "b = Shape<start=1,end=2>(x) shape = Concat<axis=0>(one, b, size) "
STATES = {
    "filled": SHAPE + "s = ConstantOfShape(shape) ",
    "expanded": SHAPE + "s = Expand(nought, shape) ",
    "cut": SHAPE + "f = ConstantOfShape(shape) g = Concat<axis=0>(f, f) s = Slice(g, one, two) ",
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(op: str, state: str, states: str) -> object:
    rows = GATES[op] * SIZE
    return parse(
        f"(float[t,n,2] x) => (float[t,1,n,{SIZE}] y) {{ {state}"
        f"y = {op}<hidden_size={SIZE}>(x, w, r, , , {states}) }}",
        w=RNG.standard_normal((1, rows, 2), np.float32),
        r=RNG.standard_normal((1, rows, SIZE), np.float32), one=np.array([1]), two=np.array([2]),
        size=np.array([SIZE]), nought=np.float32(0), given=np.ones((1, BATCH, SIZE), np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("op", "states"), [("LSTM", "s, s"), ("GRU", "s"), ("RNN", "s")])
def test_zeros_are_what_a_layer_begins_with(op: str, states: str, state: str) -> None:
    x = RNG.standard_normal((4, BATCH, 2), np.float32)
    after, change = apply(ZEROS, layer(op, STATES[state], states), {"x": x})
    assert change.rewrites == len(states.split(","))
    assert after.op_counts() == {op: 1}


@pytest.mark.parametrize(
    ("states", "rewrites"), [("given, s", 1), ("s, given", 1), ("given, given", 0)]
)
def test_other_states_stay(states: str, rewrites: int) -> None:
    x = RNG.standard_normal((4, BATCH, 2), np.float32)
    model = layer("LSTM", STATES["filled"], states)
    _, change = apply(ZEROS, model, {"x": x})
    assert change.rewrites == rewrites


def test_numbers_that_are_no_zeros_stay() -> None:
    state = STATES["filled"].replace("ConstantOfShape(shape)", "Expand(half, shape)")
    model = parse(
        f"(float[t,n,2] x, float half) => (float[t,1,n,{SIZE}] y) {{ {state}"
        f"y = RNN<hidden_size={SIZE}>(x, w, r, , , s) }}",
        w=np.ones((1, SIZE, 2), np.float32), r=np.ones((1, SIZE, SIZE), np.float32),
        one=np.array([1]), size=np.array([SIZE]),
    )  # fmt: skip
    assert not ZEROS.apply(model)[1].changed
