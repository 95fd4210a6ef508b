from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.model import Model
from onnxpress.passes.fuse_pads import FusePads
from zoo.graphs import Array, apply, parse

RANDOM = np.random.default_rng(0)
FUSE = FusePads()
X = RANDOM.standard_normal((2, 3, 7, 8)).astype(np.float32)
W = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
SPATIAL = np.array([0, 0, 1, 0, 0, 0, 2, 1])


def image(body: str, opset: int = 17, **constants: Array) -> Model:
    given = {"w": W, "p": SPATIAL, **constants}
    return parse(f"(float[N,3,h,v] x) => (float[a,b,c,d] y) {{ {body} }}", opset, **given)


@pytest.mark.parametrize(
    "body",
    [
        "q = Pad(x, p) y = Conv(q, w)",
        "q = Pad(x, p, nought) y = Conv<strides=[2, 2], dilations=[2, 1]>(q, w)",
        "q = Pad(x, p) y = Conv<pads=[1, 1, 0, 0]>(q, w)",
        'q = Pad(x, p) y = Conv<auto_pad="VALID">(q, w)',
        "q = Pad(x, p) y = AveragePool<kernel_shape=[3, 3]>(q)",
        "q = Pad(x, p) y = AveragePool<kernel_shape=[3, 3], count_include_pad=1>(q)",
        "q = Pad(x, p) y = AveragePool<kernel_shape=[3, 3], strides=[2, 1]>(q)",
        "q = Pad(x, p, low) y = MaxPool<kernel_shape=[3, 2], strides=[2, 2]>(q)",
        "r = Relu(x) q = Pad(r, p) y = MaxPool<kernel_shape=[3, 3]>(q)",
        "r = Clip(x, nought, six) q = Pad(r, p) y = MaxPool<kernel_shape=[3, 3]>(q)",
        "q = Pad(x, p) a = Conv(q, w) b = Conv<pads=[0, 0, 0, 0]>(q, w) y = Add(a, b)",
    ],
)
def test_it_goes(body: str) -> None:
    model = image(body, nought=np.float32(0), low=np.float32(-np.inf), six=np.float32(6))
    after, change = apply(FUSE, model, {"x": X})
    assert change.rewrites == 1
    assert "Pad" not in after.op_counts()


def test_the_dimensions_may_be_named() -> None:
    body = "q = Pad(x, some, , axes) y = Conv(q, w)"
    model = image(body, 18, some=np.array([1, 0, 2, 1]), axes=np.array([3, -2]))
    assert apply(FUSE, model, {"x": X})[0].op_counts() == {"Conv": 1}


REFUSALS = [
    ('q = Pad<mode="edge">(x, p) y = Conv(q, w)', "does not write one number", "q"),
    ("q = Pad(x, p, one) y = Conv(q, w)", "does not write zeros", "q"),
    ("q = Pad(x, all) y = AveragePool<kernel_shape=[3, 3]>(q)", "other dimensions", "q"),
    ("q = Pad(x, less) y = Conv(q, w)", "takes away", "q"),
    ("s = Identity(p) q = Pad(x, s) y = Conv(q, w)", "is not known", "q"),
    ('q = Pad(x, p) y = Conv<auto_pad="SAME_UPPER">(q, w)', "depends on the size", "y"),
    ("q = Pad(x, p) c = Conv(q, w) r = Shape(q) y = Expand(c, r)", "another node", "r"),
    ("q = Pad(x, p) y = MaxPool<kernel_shape=[3, 3]>(q)", "may be the largest", "q"),
    ("q = Pad(x, p) y = AveragePool<kernel_shape=[2, 2]>(q)", "as much as the window", "y"),
    ("q = Pad(x, p) y = AveragePool<kernel_shape=[3, 3], ceil_mode=1>(q)", "rounds up", "y"),
    (
        "q = Pad(x, p, low) y = MaxPool<kernel_shape=[3, 3], dilations=[2, 2]>(q)",
        "has gaps",
        "y",
    ),
    (
        "q = Pad(x, p) y = AveragePool<kernel_shape=[4, 4], pads=[1, 0, 0, 0]>(q)",
        "does not count",
        "y",
    ),
]


@pytest.mark.parametrize(("body", "why", "blocking"), REFUSALS)
def test_what_stays_says_why(body: str, why: str, blocking: str) -> None:
    model = image(
        body, one=np.float32(1), low=np.float32(-np.inf), all=np.array([0, 1, 0, 0, 0, 0, 0, 0]),
        less=np.array([0, 0, -1, 0, 0, 0, 0, 0]),
    )  # fmt: skip
    after, change = apply(FUSE, model)
    assert after is model
    (missed,) = change.missed
    assert why in missed.why
    assert missed.blocking == blocking


amounts = st.lists(st.integers(0, 1), min_size=4, max_size=4)
CALLS = [
    "Conv<{}>(q, w)",
    "AveragePool<kernel_shape=[3, 3], {}>(q)",
    "MaxPool<kernel_shape=[3, 3], {}>(q)",
]


@settings(max_examples=40, deadline=None)
@given(
    outer=amounts,
    own=amounts,
    call=st.sampled_from(CALLS),
    strides=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    number=st.sampled_from([0, -np.inf]),
)
def test_any_padding(
    outer: list[int], own: list[int], call: str, strides: list[int], number: float
) -> None:
    user = call.format(f"pads={own}, strides={strides}")
    apply(
        FUSE,
        image(
            f"r = Relu(x) q = Pad(r, p, v) y = {user}",
            p=np.array([0, 0, *outer[:2], 0, 0, *outer[2:]]),
            v=np.float32(number if "MaxPool" in call else 0),
        ),
        {"x": X},
    )
