from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_gru import FuseGru
from zoo.disguise import disguise
from zoo.graphs import apply, parse
from zoo.recurrent import ENDINGS, PACKINGS, READINGS, Unrolled

FUSE = FuseGru()
BASE = Unrolled(cell="GRU", order="zrn")
MIXES = range(6)
RESETS = ("after", "before")


def gru(model: Model) -> ir.Node:
    (node,) = (node for node in model.nodes() if node.op_type == "GRU")
    return node


@pytest.mark.parametrize(("packing", "reset"), list(itertools.product(PACKINGS, RESETS)))
@pytest.mark.parametrize("order", ["zrn", "rzn"])
def test_every_way_to_pack_the_gates(packing: str, reset: str, order: str) -> None:
    made = BASE.but(packing=packing, reset=reset, order=order)
    after, change = apply(FUSE, made.model(), made.feeds(2))
    assert change.rewrites == 1, change.reasons
    assert "Sigmoid" not in after.op_counts()
    linear_first = gru(after).attributes.get_int("linear_before_reset", 0)
    assert linear_first == (reset == "after")


@pytest.mark.parametrize(("mix", "reset"), list(itertools.product(MIXES, RESETS)))
def test_every_way_to_mix_old_and_new(mix: int, reset: str) -> None:
    made = BASE.but(mix=mix, reset=reset, ending="stack")
    after, change = apply(FUSE, made.model(), made.feeds(3))
    assert change.rewrites == 1, change.reasons
    assert gru(after)


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("given_states", [False, True])
def test_first_states_are_zeros_or_given(batch: int | str, given_states: bool) -> None:
    made = BASE.but(batch=batch, given=given_states)
    after, change = apply(FUSE, made.model(), made.feeds(2))
    assert change.rewrites == 1, change.reasons
    assert len(gru(after).inputs) == (6 if given_states else 4)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    made=st.builds(
        Unrolled,
        cell=st.just("GRU"),
        order=st.sampled_from(["zrn", "rzn"]),
        packing=st.sampled_from(PACKINGS),
        reading=st.sampled_from(READINGS),
        ending=st.sampled_from(ENDINGS),
        steps=st.integers(2, 5),
        inputs=st.integers(1, 6),
        hidden=st.integers(1, 6),
        bias=st.booleans(),
        given=st.booleans(),
        mix=st.sampled_from(MIXES),
        reset=st.sampled_from(RESETS),
        batch=st.sampled_from(["n", 2]),
        seed=st.integers(0, 9),
    ),
    seed=st.integers(0, 9),
)
def test_outputs_stay(made: Unrolled, seed: int) -> None:
    if made.packing == "ahead" and made.reading == "several":
        made = made.but(reading="gather")  # the sine of a product is no product
    model = Model(ir.from_proto(disguise(ir.to_proto(made.model().ir), seed)))
    names = [spec.name for spec in model.signature.inputs]
    feeds = dict(zip(names, made.feeds(2, seed).values(), strict=True))
    assert apply(FUSE, model, feeds)[1].rewrites == 1


@pytest.mark.parametrize(
    ("swap", "why"),
    [(("Tanh", "Relu"), "Relu"), (("Sigmoid", "HardSigmoid"), "HardSigmoid")],
)
def test_other_activations_are_told(swap: tuple[str, str], why: str) -> None:
    made = BASE.but(steps=2, swaps=(swap,))
    _, change = apply(FUSE, made.model(), made.feeds(2))
    assert not change.changed
    assert any(why in missed.why and missed.blocking for missed in change.missed), change.reasons


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_without_a_kernel_stay(dtype: type) -> None:
    _, change = apply(FUSE, BASE.but(dtype=dtype).model())
    assert not change.changed
    assert "which ONNX Runtime's GRU does not" in change.missed[0].why


STEP = """u{t} = Add(p{t}, q{t}) z{t}, r{t} = Split<axis=1>(u{t}) i{t} = Sigmoid(z{t})
    j{t} = Sigmoid(r{t}) k{t} = Mul(j{t}, {h}) c{t} = Concat<axis=1>({x}, k{t})
    m{t} = MatMul(c{t}, v) n{t} = Tanh(m{t}) d{t} = Sub({h}, n{t}) e{t} = Mul(i{t}, d{t})
    h{t} = Add(n{t}, e{t})
"""


def two_steps(second: str = "wx", input_: str = "s") -> Model:
    """A step that reads x and one that reads ``input_``, with the weight ``second``."""

    def step(t: int, h: str, x: str, weight: str) -> str:
        products = f"p{t} = MatMul({x}, {weight}) q{t} = MatMul({h}, wh) "
        return products + STEP.replace("{t}", str(t)).replace("{h}", h).replace("{x}", x)

    body = (
        step(0, "h", "x", "wx") + "f = Relu(h0) " * (input_ == "f") + step(1, "h0", input_, second)
    )
    chance = np.random.default_rng(0)
    shapes = {"wx": (2, 4), "wh": (2, 4), "other": (2, 4), "v": (4, 2)}
    weights = {name: chance.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    inputs = "float[n,2] x, float[n,2] s, float[n,2] h"
    return parse(f"({inputs}) => (float[n,2] h1) {{ {body} }}", **weights)


FEEDS = {
    name: np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32) for name in "xsh"
}


def test_steps_of_several_tensors_are_joined() -> None:
    after, change = apply(FUSE, two_steps(), FEEDS)
    assert change.rewrites == 1, change.reasons
    assert after.op_counts() == {"Concat": 1, "GRU": 1, "Reshape": 3}


@pytest.mark.parametrize(
    ("second", "input_", "why", "blocking"),
    [
        ("other", "s", "one step has other weights than the one before", True),
        ("wx", "f", "the input of one step is computed from the result of the one before", True),
    ],
)
def test_what_keeps_steps_apart_is_told(second: str, input_: str, why: str, blocking: bool) -> None:
    _, change = apply(FUSE, two_steps(second, input_), FEEDS)
    assert not change.changed
    (missed,) = change.missed
    assert missed.kind == "GRU"
    assert missed.why == why
    assert bool(missed.blocking) == blocking
