"""Opset 18 in opset 17's words: the same numbers, or the node that has no such words."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.downgrade import to_17
from onnxpress.errors import ModelError
from zoo.graphs import answers, parse

X = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)


def model(body: str, **constants: np.ndarray):  # type: ignore[no-untyped-def]
    found = parse(f"(float[b,3,4,6] x) => (float[] y) {{ {body} }}", **constants)
    found.ir.graph.outputs[0].shape = None
    found.ir.opset_imports[""] = 18
    return found


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = ReduceMean(x, a)", {"a": np.array([2, 3])}),
        ("y = ReduceMax<keepdims=0>(x, a)", {"a": np.array([-1])}),
        ("y = ReduceL2(x)", {}),
        ("p, q = Split<axis=3, num_outputs=2>(x) y = Concat<axis=1>(q, p)", {}),
        ("y = Pad(x, p)", {"p": np.array([0, 0, 1, 1, 0, 0, 2, 0])}),
        ('y = Resize<mode="linear", antialias=0>(x, , s)', {"s": np.array([1, 1, 2, 2], "f")}),
    ],
)
def test_it_computes_the_same(body: str, constants: dict[str, np.ndarray]) -> None:
    before = model(body, **constants)
    after = to_17(before)
    assert after.ir.opset_imports[""] == 17
    assert before.ir.opset_imports[""] == 18
    for a, b in zip(answers(before, {"x": X}), answers(after, {"x": X}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "constants", "why"),
    [
        ("p, q, r, s = Split<axis=3, num_outputs=4>(x) y = Neg(p)", {}, "it splits unevenly"),
        ("p, q = Split<axis=0, num_outputs=2>(x) y = Neg(p)", {}, "or a free dimension"),
        ("y = Mish(x)", {}, "Mish came with opset 18"),
        ("y = Resize<mode=\"linear\", antialias=1>(x, , s)", {"s": np.array([1, 1, 2, 2], "f")},
         "it has antialias 1"),
        ("y = ReduceMean<noop_with_empty_axes=1>(x)", {}, "it reduces nothing"),
    ],
)  # fmt: skip
def test_what_17_cannot_say_is_named(body: str, constants: dict[str, np.ndarray], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        to_17(model(body, **constants))
