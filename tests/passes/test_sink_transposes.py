from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.eliminate_identity import EliminateIdentity
from onnxpress.passes.sink_transposes import SinkTransposes
from zoo.graphs import Array, apply, parse

RANDOM = np.random.default_rng(0)
SINK = SinkTransposes()
X = RANDOM.standard_normal((2, 3, 5, 4)).astype(np.float32)
LAST, FIRST = "Transpose<perm=[0, 2, 3, 1]>", "Transpose<perm=[0, 3, 1, 2]>"
CONSTANTS = {
    "k": RANDOM.standard_normal(3).astype(np.float32),
    "grid": RANDOM.standard_normal((1, 5, 4, 3)).astype(np.float32),
    "one": np.float32(1), "pads": np.array([0, 1, 2, 0, 0, 0, 1, 0]), "hw": np.array([1, 2]),
    "starts": np.array([1, 0]), "ends": np.array([4, 2]), "axes": np.array([1, 3]),
    "parts": np.array([1, 2]), "more": np.zeros((2, 5, 4, 2), np.float32),
}  # fmt: skip


def image(body: str, opset: int = 18, **more: Array) -> Model:
    text = f"(float[N,3,h,v] x) => (float[a,b,c,d] y) {{ {body} }}"
    return parse(text, opset, **CONSTANTS, **more)


def left(body: str, opset: int = 18) -> dict[str, int]:
    return apply(SINK, image(body, opset), {"x": X})[0].op_counts()


@pytest.mark.parametrize(
    "inner",
    [
        "b = Relu(a)",
        "b = Mul(a, k)",
        "b = Add(grid, a)",
        "b = Clip(a, one)",
        "b = Pad(a, pads)",
        "b = ReduceMean(a, hw)",
        "b = ReduceMean<noop_with_empty_axes=1>(a, hw)",
        "b = ReduceMax(a)",
        "b = Slice(a, starts, ends, axes)",
        "b = Slice(a, starts, ends)",
        "b = Softmax(a)",
        "b = Softmax<axis=1>(a)",
        "b = Concat<axis=3>(a, a, more)",
        "b = Concat<axis=-2>(a, a)",
        "p, q = Split<axis=-1>(a, parts) b = Mul(p, q)",
        "s = Sigmoid(a) b = Mul(a, s)",
        "g = Greater(a, one) b = Where(g, a, k)",
        "i = Cast<to=6>(a) b = Cast<to=1>(i)",
        "m = ReduceMean(a, hw) s = Sigmoid(m) b = Mul(s, a)",
    ],
)
def test_both_go(inner: str) -> None:
    assert "Transpose" not in left(f"a = {LAST}(x) {inner} y = {FIRST}(b)")


@pytest.mark.parametrize("opset", [13, 17])
def test_dimensions_as_attributes(opset: int) -> None:
    body = f"a = {LAST}(x) b = ReduceMean<axes=[1, -2]>(a) y = {FIRST}(b)"
    assert left(body, opset) == {"ReduceMean": 1}


def test_two_branches_that_meet() -> None:
    body = f"""r = Exp(x) a = {LAST}(x) b = {LAST}(r) s = Add(a, b) t = Mul(s, k)
    u = {FIRST}(t) v = {FIRST}(s) w = Relu(t) z = {FIRST}(w) m = Add(u, v) y = Add(m, z)"""
    assert "Transpose" not in left(body)


def test_the_mean_over_places_needs_no_order() -> None:
    model = parse(
        f"""(float[N,3,h,v] x) => (float[a,b] y)
        {{ a = {LAST}(x) b = Relu(a) y = ReduceMean<keepdims=0>(b, hw) }}""",
        18, hw=np.array([1, 2]),
    )  # fmt: skip
    after, _ = apply(SINK, model, {"x": X})
    assert after.op_counts() == {"Relu": 1, "ReduceMean": 1}


def test_nothing_lies_between() -> None:
    model = parse(
        f"""(float[N,3,h,v] x) => (float[a,b] y)
        {{ a = {LAST}(x) b = ReduceMax<keepdims=0>(a, hw) c = ReduceMean<keepdims=0>(a, hw)
           y = Add(b, c) }}""",
        18, hw=np.array([-2, 1]),
    )  # fmt: skip
    after, _ = apply(SINK, model, {"x": X})
    assert after.op_counts() == {"ReduceMax": 1, "ReduceMean": 1, "Add": 1}


def test_what_is_left_in_another_order_needs_it() -> None:
    model = parse(
        "(float[N,3,h,v] x) => (float[a,b] y)"
        " { a = Transpose(x) y = ReduceMean<keepdims=0>(a, hw) }", 18, hw=np.array([0, 1])
    )  # fmt: skip
    assert not apply(SINK, model)[1].changed


def test_reshapes_past_ones_count_too() -> None:
    body = """m = GlobalAveragePool(x) a = Reshape(m, last) b = Add(a, k)
    y = Reshape(b, first)"""
    model = image(body, last=np.array([0, 1, 1, 3]), first=np.array([0, 3, 1, 1]))
    after, _ = apply(SINK, model, {"x": X})
    assert after.op_counts() == {"GlobalAveragePool": 1, "Add": 1}


def test_one_is_added_where_more_go() -> None:
    body = f"""r = Exp(x) t = Neg(x) a = {LAST}(r) b = {LAST}(t) c = Add(a, b) d = Mul(c, k)
    y = Identity(d)"""
    assert left(body)["Transpose"] == 1


def test_outputs_keep_their_names_and_shapes() -> None:
    model = parse(
        f"""(float[N,3,h,v] x) => (float[N,h,v,3] p, float[N,3,h,v] y)
        {{ e = Exp(x) f = Neg(x) a = {LAST}(e) b = {LAST}(f) p = Add(a, b) y = {FIRST}(p) }}""", 18
    )  # fmt: skip
    after, _ = apply(SINK, model, {"x": X})
    assert [value.name for value in after.ir.graph.outputs] == ["p", "y"]
    assert EliminateIdentity().apply(after)[0].op_counts()["Transpose"] == 1


def test_two_that_follow_each_other_become_one() -> None:
    assert left(f"a = {LAST}(x) b = Relu(a) y = {LAST}(b)") == {"Relu": 1, "Transpose": 1}


@pytest.mark.parametrize(
    "body",
    [
        f"a = {LAST}(x) y = Relu(a)",
        f"a = {LAST}(x) b = LayerNormalization(a, k) y = {FIRST}(b)",
        f"a = {LAST}(x) b = CumSum(a, axis) y = {FIRST}(b)",
        f"s = Shape(x) a = {LAST}(x) b = Expand(a, s) y = {FIRST}(b)",
    ],
)
def test_what_cares_for_the_order_stays(body: str) -> None:
    model = image(body, axis=np.array(1))
    assert not apply(SINK, model)[1].changed


def test_as_many_would_come_as_go() -> None:
    model = parse(
        f"""(float[N,3,h,v] x, float[N,h,v,3] z) => (float[a,b,c,d] y, float[N,h,v,3] e)
        {{ a = {LAST}(x) e = Add(a, z) t = {FIRST}(e) y = Relu(t) }}""", 18
    )  # fmt: skip
    _, change = apply(SINK, model)
    (missed,) = change.missed
    assert not change.changed
    assert "as many would be added" in missed.why
    assert missed.blocking == "t"


def test_older_opsets_stay() -> None:
    model = image(f"a = {LAST}(x) b = Relu(a) y = {FIRST}(b)", 12)
    assert not apply(SINK, model)[1].changed


CALLS = ["Relu({0})", "Mul({0}, k)", "Add({0}, {1})", "Pad({0}, pad)", "Max({1}, {0}, one)"]
STEPS = st.lists(
    st.tuples(st.sampled_from(CALLS), st.integers(0, 9), st.integers(0, 9)), max_size=7
)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS, first=st.lists(st.booleans(), min_size=3, max_size=3), outputs=st.integers(1, 3)
)
def test_any_region(steps: list[tuple[str, int, int]], first: list[bool], outputs: int) -> None:
    """Random sums and products of transposed and other tensors; every output is compared."""
    text, last, channels_first = "e = Exp(x) n = Neg(x) ", [], []
    for index, (source, channels) in enumerate(zip("xen", first, strict=True)):
        text += f"t{index} = {LAST}({source}) "
        last.append(f"t{index}")
        if channels:
            channels_first.append(source)
    for index, (call, one, two) in enumerate(steps):
        text += f"v{index} = {call.format(last[one % len(last)], last[two % len(last)])} "
        last.append(f"v{index}")
        if first[index % 3]:
            text += f"w{index} = {FIRST}(v{index}) u{index} = Relu(w{index}) "
            channels_first.append(f"u{index}")
    for index in range(outputs):
        text += f"y{index} = Neg({last[-1 - index]}) "
    text += "".join(f"z{index} = Abs({value}) " for index, value in enumerate(channels_first))
    names = [f"y{i}" for i in range(outputs)] + [f"z{i}" for i in range(len(channels_first))]
    declared = ", ".join(f"float[{n}a,{n}b,{n}c,{n}d] {n}" for n in names)
    model = parse(
        f"(float[N,3,h,v] x) => ({declared}) {{ {text} }}", 18, k=CONSTANTS["k"],
        one=CONSTANTS["one"], pad=np.zeros(8, np.int64),
    )  # fmt: skip
    after, _ = apply(SINK, model, {"x": X})
    assert after.op_counts().get("Transpose", 0) <= model.op_counts()["Transpose"]
