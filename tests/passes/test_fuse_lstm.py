from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_lstm import FuseLstm
from zoo.disguise import disguise
from zoo.graphs import apply, parse
from zoo.recurrent import ENDINGS, PACKINGS, READINGS, Unrolled

FUSE = FuseLstm()
BASE = Unrolled()


def lstm(model: Model) -> ir.Node:
    (node,) = (node for node in model.nodes() if node.op_type == "LSTM")
    return node


@pytest.mark.parametrize(
    ("packing", "order"), list(itertools.product(PACKINGS, ("ifgo", "iofg", "gfio")))
)
def test_every_way_to_pack_the_gates(packing: str, order: str) -> None:
    made = BASE.but(packing=packing, order=order)
    after, change = apply(FUSE, made.model(), made.feeds(2))
    assert change.rewrites == 1, change.reasons
    assert "Sigmoid" not in after.op_counts()
    assert lstm(after).attributes["hidden_size"].as_int() == made.hidden


@pytest.mark.parametrize(("reading", "ending"), list(itertools.product(READINGS, ENDINGS)))
def test_every_way_in_and_out(reading: str, ending: str) -> None:
    made = BASE.but(reading=reading, ending=ending)
    after, change = apply(FUSE, made.model(), made.feeds(3))
    assert change.rewrites == 1, change.reasons
    counts = after.op_counts()
    assert "Sigmoid" not in counts
    if reading != "several" and ending != "each" and (reading, ending) != ("backward", "concat"):
        assert not counts.keys() & {"Gather", "Concat", "Split", "Slice", "Squeeze"}
    backward = lstm(after).attributes.get_string("direction", "forward")
    assert backward == ("reverse" if reading == "backward" else "forward")


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("given_states", [False, True])
def test_first_states_are_zeros_or_given(batch: int | str, given_states: bool) -> None:
    made = BASE.but(batch=batch, given=given_states)
    after, change = apply(FUSE, made.model(), made.feeds(2))
    assert change.rewrites == 1, change.reasons
    assert len(lstm(after).inputs) == (7 if given_states else 4)


def test_one_sigmoid_may_make_three_gates() -> None:
    made = BASE.but(split="after")
    assert apply(FUSE, made.model(), made.feeds(2))[1].rewrites == 1


@pytest.mark.parametrize("opset", [12, 21])
def test_other_opsets(opset: int) -> None:
    made = BASE.but(opset=opset, ending="each", packing="separate")
    after, change = apply(FUSE, made.model(), made.feeds(2))
    assert change.rewrites == 1, change.reasons
    assert lstm(after)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    made=st.builds(
        Unrolled,
        order=st.permutations("ifgo").map("".join),
        packing=st.sampled_from(PACKINGS),
        reading=st.sampled_from(READINGS),
        ending=st.sampled_from(ENDINGS),
        steps=st.integers(2, 5),
        inputs=st.integers(1, 6),
        hidden=st.integers(1, 6),
        bias=st.booleans(),
        given=st.booleans(),
        split=st.sampled_from(["before", "after"]),
        batch=st.sampled_from(["n", 2]),
        seed=st.integers(0, 9),
    ),
    seed=st.integers(0, 9),
)
def test_outputs_stay(made: Unrolled, seed: int) -> None:
    if made.packing == "separate":
        made = made.but(split="before")
    if made.packing == "ahead" and made.reading == "several":
        made = made.but(reading="gather")  # the sine of a product is no product
    model = Model(ir.from_proto(disguise(ir.to_proto(made.model().ir), seed)))
    names = [spec.name for spec in model.signature.inputs]
    feeds = dict(zip(names, made.feeds(2, seed).values(), strict=True))
    assert apply(FUSE, model, feeds)[1].rewrites == 1


def edited(made: Unrolled, edit: str) -> Model:
    """``made`` with something in it that no LSTM has."""
    proto = ir.to_proto(made.model().ir)
    nodes = list(proto.graph.node)
    sigmoids = [node for node in nodes if node.op_type == "Sigmoid"]
    output = proto.graph.output.add()
    if edit == "gate is an output":
        output.CopyFrom(onnx.helper.make_tensor_value_info(sigmoids[0].output[0], 1, None))
    elif edit == "gate is read":
        proto.graph.node.append(onnx.helper.make_node("Relu", sigmoids[0].output, ["r"], "reader"))
        output.CopyFrom(onnx.helper.make_tensor_value_info("r", 1, None))
    elif edit == "state is read":
        state = next(node for node in nodes if node.op_type == "Tanh" and _adds(nodes, node))
        proto.graph.node.append(onnx.helper.make_node("Relu", state.input, ["r"], "reader"))
        output.CopyFrom(onnx.helper.make_tensor_value_info("r", 1, None))
    return Model(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def _adds(nodes: list[onnx.NodeProto], bent: onnx.NodeProto) -> bool:
    maker = next((node for node in nodes if bent.input[0] in node.output), None)
    return maker is not None and maker.op_type == "Add"


@pytest.mark.parametrize(
    ("edit", "why", "blocking"),
    [
        ("gate is an output", "a value inside it is an output of the model", True),
        ("gate is read", "another node reads a value inside it", True),
        ("state is read", "another node reads a value inside it", True),
    ],
)
def test_values_inside_stay_where_they_are_read(edit: str, why: str, blocking: bool) -> None:
    _, change = apply(FUSE, edited(BASE, edit), BASE.feeds(2))
    assert not change.changed
    (missed,) = change.missed
    assert missed.kind == "LSTM"
    assert why in missed.why
    assert bool(missed.blocking) == blocking
    assert edit == "gate is an output" or missed.blocking == "reader"


@pytest.mark.parametrize(
    ("swap", "why"),
    [(("Tanh", "Relu"), "Relu"), (("Sigmoid", "HardSigmoid"), "HardSigmoid")],
)
def test_other_activations_are_told(swap: tuple[str, str], why: str) -> None:
    made = BASE.but(steps=2, swaps=(swap,))
    _, change = apply(FUSE, made.model(), made.feeds(2))
    assert not change.changed
    assert any(why in missed.why and missed.blocking for missed in change.missed), change.reasons
    assert any("one step alone" in missed.why for missed in change.missed)


def test_one_step_is_left_alone() -> None:
    made = BASE.but(steps=1)
    _, change = apply(FUSE, made.model(), made.feeds(2))
    (missed,) = change.missed
    assert missed.why == "it is one step alone"


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_without_a_kernel_stay(dtype: type) -> None:
    made = BASE.but(dtype=dtype)
    _, change = apply(FUSE, made.model())
    assert not change.changed
    assert "which ONNX Runtime's LSTM does not" in change.missed[0].why


def test_an_empty_batch_stays() -> None:
    made = BASE.but(batch=0)
    _, change = apply(FUSE, made.model())
    assert change.missed[0].why == "its batch is empty"


PEEPHOLE = """
(float[n,2] x, float[n,2] h, float[n,2] c) => (float[n,2] y) {
    a = MatMul(x, w) b = MatMul(h, w) ab = Add(a, b)
    pc = Mul(c, peep) ip = Add(ab, pc)
    i = Sigmoid(ip) f = Sigmoid(ab) o = Sigmoid(ab) g = Tanh(ab)
    fc = Mul(f, c) ig = Mul(i, g) d = Add(fc, ig) t = Tanh(d) y = Mul(o, t)
}"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("", "", "a gate adds Mul to its products"),
        ("ip = Add(ab, pc)", "ip = Sub(ab, pc)", "a gate adds Sub to its products"),
        ("t = Tanh(d)", "e = Clip(d, low, high) t = Tanh(e)", "its state is clipped"),
        ("f = Sigmoid(ab)", "f = Sub(one, i)", "a gate is Sub"),
    ],
)
def test_variants_are_told(old: str, new: str, why: str) -> None:
    constants = {"w": np.eye(2), "peep": [1, 2], "low": -1, "high": 1, "one": 1}
    arrays = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    _, change = apply(FUSE, parse(PEEPHOLE.replace(old, new), **arrays))
    (missed,) = change.missed
    assert why in missed.why
    assert missed.blocking
