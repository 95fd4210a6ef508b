"""Random small graphs keep their answers through both recipes, without the guard's help."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.verbs.optimize import RECIPES, optimize
from zoo.graphs import answers
from zoo.random_graphs import SIZES, RandomGraph
from zoo.random_steps import STEPS

RECIPE = {target: Recipe.parse(text) for target, text in RECIPES.items()}
TOLERANCE = {np.dtype(np.float16): 2e-2}
NUDGE = {np.dtype(np.float16): 1e-3}
"""How far inputs are moved to see how much a graph makes of rounding."""
AMPLIFIED = 30


def equal(expected: np.ndarray, nudged: np.ndarray, got: np.ndarray) -> bool:
    """``nudged`` are the answers to inputs that are a little off: rounding may do as much."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    a, b, c = (array.astype(np.float64) for array in (expected, got, nudged))
    known = np.isfinite(a) & np.isfinite(c)
    if not np.isfinite(b[known]).all():
        return False
    if not known.any():
        return True
    a, b, c = a[known], b[known], c[known]
    rtol = TOLERANCE.get(expected.dtype, 1e-4)
    bound = rtol * np.abs(a).max() + 1e-6 + AMPLIFIED * np.abs(a - c).max()
    return bool(np.abs(a - b).max() <= bound)


def check(graph: RandomGraph) -> None:
    model = graph.model()
    onnx.checker.check_model(ir.to_proto(model.ir), full_check=True)
    runs = []
    for sizes in SIZES:
        feeds = graph.feeds(sizes)
        off = {
            name: (array * (1 + NUDGE.get(array.dtype, 1e-6))).astype(array.dtype)
            for name, array in feeds.items()
        }
        try:
            runs.append((feeds, answers(model, feeds), answers(model, off)))
        except Exception:  # noqa: BLE001  # it has not every operator for every type
            return
    for target, recipe in RECIPE.items():
        result = optimize(model, None, recipe)
        assert [step for step in result.passes if step.reverted] == []
        after: Model = result.model
        assert after.signature == model.signature
        if target == "portable":
            onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
        again = optimize(after, None, recipe)
        assert [step.name for step in again.passes if step.changed] == []
        for feeds, expected, nudged in runs:
            assert all(map(equal, expected, nudged, answers(after, feeds)))


kinds = st.sampled_from([TensorProto.FLOAT] * 6 + [TensorProto.DOUBLE, TensorProto.FLOAT16])
graphs = {
    "chance": st.randoms(use_true_random=False),
    "nodes": st.sampled_from([3, 6, 10, 16]),
    "opset": st.sampled_from([13, 14, 17, 18, 20, 21]),
    "kind": kinds,
}


@settings(max_examples=25, deadline=None)
@given(**graphs)
def test_any_graph(chance: random.Random, nodes: int, opset: int, kind: int) -> None:
    check(RandomGraph(chance, STEPS, nodes, opset, kind))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=500, deadline=None)
@given(**graphs)
def test_many_graphs(chance: random.Random, nodes: int, opset: int, kind: int) -> None:
    check(RandomGraph(chance, STEPS, nodes, opset, kind))
