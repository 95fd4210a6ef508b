from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_activations import FuseActivations
from zoo.graphs import answers, apply, difference, parse

X = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32) * 4
FUSE = FuseActivations()
NUMBERS = {
    "zero": 0.0, "one": 1.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "small": 0.2, "half": 0.5,
    "large": 1.5, "minus": -0.2, "lots": np.inf,
}  # fmt: skip


def model(body: str, opset: int = 18, dtype: str = "float") -> Model:
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    given = {name: np.asarray(number, kind) for name, number in NUMBERS.items()}
    return parse(f"({dtype}[n,40] x) => ({dtype}[n,40] y) {{ {body} }}", opset, 8, **given)


SIX = "p = Add(x, three) c = Clip(p, zero, six) "
TURNED = "n = Neg(x) q = Relu(n) r = Relu(x) "
FORMS = {
    "y = Max(x, zero)": ("Relu", {}),
    "y = Max(zero, x)": ("Relu", {}),
    "y = Clip(x, zero)": ("Relu", {}),
    "y = Clip(x, zero, lots)": ("Relu", {}),
    "a = Relu(x) y = Relu(a)": ("Relu", {}),
    "a = Relu(x) y = Min(a, six)": ("Clip", {}),
    "a = Min(x, six) y = Max(a, zero)": ("Clip", {}),
    "a = Relu(x) b = Clip(a, zero, six) y = Min(b, three)": ("Clip", {}),
    SIX + "y = Div(c, six)": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    SIX + "y = Mul(sixth, c)": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "p = Add(x, three) a = Relu(p) c = Min(a, six) y = Div(c, six)": (
        "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}
    ),
    "m = Mul(x, small) a = Add(m, half) y = Clip(a, zero, one)": (
        "HardSigmoid", {"alpha": 0.2, "beta": 0.5}
    ),
    "m = Div(x, six) a = Add(half, m) y = Clip(a, zero, one)": (
        "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}
    ),
    "a = Add(x, half) y = Clip(a, zero, one)": ("HardSigmoid", {"alpha": 1, "beta": 0.5}),
    SIX + "m = Mul(x, c) y = Div(m, six)": ("HardSwish", {}),
    SIX + "m = Mul(c, x) y = Mul(m, sixth)": ("HardSwish", {}),
    SIX + "m = Mul(c, sixth) y = Mul(x, m)": ("HardSwish", {}),
    SIX + "m = Div(x, six) y = Mul(m, c)": ("HardSwish", {}),
    "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(h, x)": ("HardSwish", {}),
    "m = Mul(x, small) y = Max(m, x)": ("LeakyRelu", {"alpha": 0.2}),
    "m = Mul(x, large) g = Greater(x, zero) y = Where(g, x, m)": ("LeakyRelu", {"alpha": 1.5}),
    "m = Mul(x, minus) g = LessOrEqual(x, zero) y = Where(g, m, x)": ("LeakyRelu", {"alpha": -0.2}),
    TURNED + "m = Mul(q, small) y = Sub(r, m)": ("LeakyRelu", {"alpha": 0.2}),
    TURNED + "m = Mul(minus, q) y = Add(m, r)": ("LeakyRelu", {"alpha": 0.2}),
    "s = Softplus(x) t = Tanh(s) y = Mul(t, x)": ("Mish", {}),
}  # fmt: skip


@pytest.mark.parametrize("body", FORMS)
def test_every_way_to_write_it(body: str) -> None:
    after, change = apply(FUSE, model(body), {"x": X})
    (node,) = after.nodes()
    op, attributes = FORMS[body]
    assert node.op_type == op
    assert change.rewrites
    for name, number in attributes.items():
        assert node.attributes[name].as_float() == pytest.approx(number, rel=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "y = Min(x, six)",
        "y = Clip(x, zero, six)",
        "y = Clip(x, six, zero)",
        "a = Clip(x, six, zero) y = Relu(a)",
        "m = Mul(x, large) y = Max(m, x)",
        "m = Mul(x, minus) y = Max(m, x)",
        SIX + "y = Div(c, three)",
        "h = HardSigmoid(x) y = Mul(h, x)",
        "m = Mul(x, small) g = Greater(x, one) y = Where(g, x, m)",
        "s = Sigmoid(x) y = Mul(x, s)",
        "e = Exp(x) a = Add(e, one) y = Log(a)",
    ],
)
def test_look_alikes_and_what_runs_faster_as_it_is(body: str) -> None:
    _, change = apply(FUSE, model(body), {"x": X})
    assert not change.changed
    assert not change.missed


@pytest.mark.parametrize(
    ("body", "opset", "dtype", "kind", "why", "blocking"),
    [
        (SIX + "m = Mul(x, c) y = Div(m, six)", 13, "float", "HardSwish", "needs opset 14", ""),
        ("s = Softplus(x) t = Tanh(s) y = Mul(t, x)", 17, "float", "Mish", "needs opset 18", ""),
        (SIX + "y = Div(c, six)", 17, "double", "HardSigmoid", "no kernel", ""),
        (SIX + "d = Div(c, six) y = Sub(d, c)", 17, "float", "HardSigmoid", "another node", "y"),
        ("m = Mul(x, small) l = Max(x, m) y = Add(l, m)", 17, "float", "LeakyRelu", "another", "y"),
    ],
)
def test_what_stays_says_why(
    body: str, opset: int, dtype: str, kind: str, why: str, blocking: str
) -> None:
    _, change = apply(FUSE, model(body, opset, dtype))
    (missed,) = change.missed
    assert missed.kind == kind
    assert why in missed.why
    assert missed.blocking == blocking
    assert not change.changed


def test_a_bound_that_something_else_reads_stays() -> None:
    body = "a = Relu(x) b = Min(a, six) y = Sub(b, a)"
    assert not apply(FUSE, model(body), {"x": X})[1].changed


def test_a_number_that_makes_the_tensor_grow() -> None:
    one = parse(
        "(float[n,4] x) => (float[a,b,c] y) { y = Max(x, k) }", k=np.zeros((1, 1, 1), np.float32)
    )
    assert not apply(FUSE, one)[1].changed


def test_half_precision() -> None:
    before = model(SIX + "m = Mul(x, c) y = Div(m, six)", 18, "float16")
    after, _ = apply(FUSE, before)
    assert after.op_counts() == {"HardSwish": 1}
    feeds = {"x": X.astype(np.float16)}
    assert difference(answers(before, feeds), answers(after, feeds)) < 2e-3


limits = st.one_of(st.none(), st.floats(-5, 5, width=32))
links = st.lists(
    st.one_of(
        st.just(("Relu", None, None)),
        st.tuples(st.just("Clip"), limits, limits),
        st.tuples(st.sampled_from(["Min", "Max"]), st.floats(-5, 5, width=32), st.none()),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(links=links)
def test_any_chain_of_bounds(links: list[tuple[str, float | None, float | None]]) -> None:
    text, constants = "", {}
    for index, (op, *bounds) in enumerate(links):
        names = []
        for place, bound in enumerate(bounds):
            if bound is not None:
                names.append(f"k{index}{place}")
                constants[names[-1]] = np.float32(bound)
            elif op == "Clip":
                names.append("")
        source = f"v{index - 1}" if index else "x"
        text += f"v{index} = {op}({', '.join([source, *names])}) "
    before = parse(
        f"(float[n,40] x) => (float[n,40] y) {{ {text} y = Neg(v{len(links) - 1}) }}", **constants
    )
    after, _ = apply(FUSE, before, {"x": X})
    if not any(op == "Clip" and low is not None and high is not None and low > high
               for op, low, high in links):  # fmt: skip
        assert len(list(after.nodes())) == 2
