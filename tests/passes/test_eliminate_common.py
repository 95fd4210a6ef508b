from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.eliminate_common import EliminateCommon
from zoo.graphs import apply, parse

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
ELIMINATE = EliminateCommon()


def remaining(body: str, **constants: np.ndarray) -> dict[str, int]:
    model = parse(f"(float[n,3] x) => (float[n,3] y) {{ {body} }}", **constants)
    return apply(ELIMINATE, model, {"x": X})[0].op_counts()


@pytest.mark.parametrize(
    "body",
    [
        "a = Exp(x) b = Exp(x) y = Sub(a, b)",
        "a = Mul(x, c) b = Mul(c, x) y = Sub(a, b)",
        "a = LeakyRelu<alpha=0.2>(x) b = LeakyRelu<alpha=0.2>(x) y = Sub(a, b)",
        "a = Mul(x, c) b = Mul(x, d) y = Sub(a, b)",
    ],
)
def test_what_is_equal_is_computed_once(body: str) -> None:
    values = np.float32([1, 2, 3])
    assert sum(remaining(body, c=values, d=values.copy()).values()) == 2


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(x, c) b = Sub(c, x) y = Sub(a, b)",
        "a = LeakyRelu<alpha=0.2>(x) b = LeakyRelu<alpha=0.3>(x) y = Sub(a, b)",
        "a = Mul(x, c) b = Mul(x, e) y = Sub(a, b)",
        "a = Mul(x, c) b = Mul(x, z) y = Sub(a, b)",
    ],
)
def test_look_alikes_stay(body: str) -> None:
    constants = {
        "c": np.float32([0, 2, 3]),
        "e": np.float32([0, 2, 4]),
        "z": np.float32([-0.0, 2, 3]),
    }
    assert sum(remaining(body, **constants).values()) == 3


def test_random_numbers_are_drawn_twice() -> None:
    model = parse(
        "(float[n,3] x) => (float[n,3] y) "
        "{ a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"
    )
    assert not ELIMINATE.apply(model)[1].changed


def test_chains_and_outputs() -> None:
    chain = "a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Sub(c, d)"
    assert remaining(chain) == {"Exp": 1, "Neg": 1, "Sub": 1}
    model = parse("(float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Exp(x) z = Exp(x) }")
    assert not apply(ELIMINATE, model, {"x": X})[1].changed  # both have to be there, by name
