from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.fuse_gemm import FuseGemm
from zoo.graphs import Array, apply, parse

RANDOM = np.random.default_rng(0)
FUSE = FuseGemm()


def normal(*shape: int) -> Array:
    return np.asarray(RANDOM.standard_normal(shape), np.float32)


@pytest.mark.parametrize("body", ["y = Add(m, b)", "y = Add(b, m)"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (1, 1)])
def test_a_bias(body: str, shape: tuple[int, ...]) -> None:
    model = parse(
        f"(float[N,4] x) => (float[a,b] y) {{ m = MatMul(x, w) {body} }}",
        w=normal(4, 5), b=normal(*shape),
    )  # fmt: skip
    assert apply(FUSE, model, {"x": normal(3, 4)})[0].op_counts() == {"Gemm": 1}


@pytest.mark.parametrize(
    ("kind", "body", "why", "blocking"),
    [
        ("float", "m = MatMul(x, w) s = Add(m, b) y = Sub(s, m)", "another node", "y"),
        ("float", "m = MatMul(x, w) y = Add(m, each)", "no bias of 5 columns", ""),
        ("int32", "m = MatMul(x, v) y = Add(m, i)", "not for INT32", ""),
    ],
)
def test_what_stays_says_why(kind: str, body: str, why: str, blocking: str) -> None:
    model = parse(
        f"({kind}[3,4] x) => ({kind}[a,b] y) {{ {body} }}", w=normal(4, 5), b=normal(5),
        each=normal(3, 1), v=np.ones((4, 5), np.int32), i=np.ones(5, np.int32),
    )  # fmt: skip
    _, change = apply(FUSE, model)
    (missed,) = change.missed
    assert why in missed.why
    assert missed.blocking == blocking


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 4), ones=st.integers(0, 2), last=st.sampled_from([1, 5]))
def test_matrices_only(rank: int, ones: int, last: int) -> None:
    dims = ",".join([*["N", "2", "3"][: rank - 1], "4"])
    made = ",".join("abcdef"[: max(rank, ones + 1)])
    model = parse(
        f"(float[{dims}] x) => (float[{made}] y) {{ m = MatMul(x, w) y = Add(b, m) }}",
        w=normal(4, 5), b=normal(*[1] * ones, last),
    )  # fmt: skip
    after, _ = apply(FUSE, model, {"x": normal(*[3, 2, 3][: rank - 1], 4)})
    assert ("Gemm" in after.op_counts()) == (rank == 2 and ones < 2)
