"""Constants that a few numbers blow up stay as they are, and nobody computes them to find out."""

from __future__ import annotations

import time

import numpy as np
import pytest

from onnxpress.passes.fold_constants import FoldConstants
from onnxpress.recipe import Recipe
from onnxpress.verbs.optimize import DEFAULT_RECIPE, optimize
from zoo.graphs import parse

MANY = 300_000_000
HUGE = {
    "Range of int32": (
        "int32[n] y", "Range(a, b, c)", {"a": np.int32(0), "b": np.int32(MANY), "c": np.int32(1)},
    ),
    "Range of int64": (
        "int64[n] y", "Range(a, b, c)", {"a": np.int64(0), "b": np.int64(MANY), "c": np.int64(1)},
    ),
    "Range of floats": (
        "float[n] y", "Range(a, b, c)",
        {"a": np.float32(0), "b": np.float32(MANY), "c": np.float32(1)},
    ),
    "Range of numbers with a dimension": (
        "float[n] y", "Range(a, b, c)",
        {"a": np.zeros(1, np.float32), "b": np.float32([MANY]), "c": np.ones(1, np.float32)},
    ),
    "Expand": (
        "float[m,n] y", "Expand(a, b)", {"a": np.float32(0), "b": np.array([20000, 20000])},
    ),
    "Tile": (
        "float[m,n] y", "Tile(a, b)",
        {"a": np.ones((1, 1), np.float32), "b": np.array([20000, 20000])},
    ),
    "ConstantOfShape": (
        "float[m,n] y", "ConstantOfShape(a)", {"a": np.array([20000, 20000])},
    ),
    "Pad": (
        "float[n] y", "Pad(a, b)", {"a": np.ones(1, np.float32), "b": np.array([0, MANY])},
    ),
    "OneHot of a float": (
        "float[m,n] y", "OneHot(a, b, c)",
        {"a": np.array([1, 2]), "b": np.float32(MANY), "c": np.array([0, 1], np.float32)},
    ),
    "OneHot of int32": (
        "float[m,n] y", "OneHot(a, b, c)",
        {"a": np.array([1, 2]), "b": np.int32(MANY), "c": np.array([0, 1], np.float32)},
    ),
    "Resize": (
        "float[k,l,m,n] y", "Resize(a, , b)",
        {"a": np.ones((1, 1, 10, 10), np.float32), "b": np.array([1, 1, 2000, 2000], np.float32)},
    ),
    "HannWindow": ("float[n] y", "HannWindow(a)", {"a": np.int32(MANY)}),
    "a product of a row and a column": (
        "float[m,n] y", "Mul(a, b)",
        {"a": np.ones((20000, 1), np.float32), "b": np.ones((1, 20000), np.float32)},
    ),
    "what is gathered again and again": (
        "float[m,n] y", "Gather(a, b)",
        {"a": np.ones((2, 20000), np.float32), "b": np.zeros(20000, np.int64)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_it_stays_and_is_not_computed(name: str) -> None:
    output, call, constants = HUGE[name]
    model = parse(f"() => ({output}) {{ r = {call} y = Neg(r) }}", 18, **constants)
    start = time.process_time()
    after, change = FoldConstants().apply(model)
    assert time.process_time() - start < 1
    assert not change.changed
    assert after is model
    assert "would grow by" in change.refusals[0]


def test_many_small_ones_may_not_grow_the_model_either() -> None:
    """Each of 100 would take 60 KB, all together six times what all may."""
    body = " ".join(f"r{i} = ConstantOfShape(shape) y{i} = Add(r{i}, x{i})" for i in range(100))
    inputs = ", ".join(f"float[100,150] x{i}" for i in range(100))
    outputs = ", ".join(f"float[100,150] y{i}" for i in range(100))
    model = parse(f"({inputs}) => ({outputs}) {{ {body} }}", 18, shape=np.array([100, 150]))
    after = optimize(model, None, Recipe.parse(DEFAULT_RECIPE)).model
    assert after.size_bytes < model.size_bytes + (1 << 20)


def test_what_frees_as_much_as_it_takes_folds_at_any_size() -> None:
    weight = np.ones((1500, 1500), np.float32)
    model = parse(
        "(float[n,1500] x) => (float[n,1500] y) { t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) }",
        18, w=weight,
    )  # fmt: skip
    after, _ = FoldConstants().apply(model)
    assert after.op_counts() == {"MatMul": 1}
