from __future__ import annotations

import numpy as np

from onnxpress.model import Model
from onnxpress.passes.eliminate_dead import EliminateDead
from zoo.graphs import apply, parse

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
ELIMINATE = EliminateDead()


def test_a_dead_chain_goes_with_its_constants() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y) <float[3] c = {1, 2, 3}, float[2] unread = {1, 2}>
        { a = Add(x, c) b = Exp(a) d = Neg(b) y = Relu(x) }"""
    )
    after, change = apply(ELIMINATE, model, {"x": X})
    assert change.rewrites == 5
    assert after.op_counts() == {"Relu": 1}
    assert not after.ir.graph.initializers


def test_what_only_a_branch_reads_is_alive() -> None:
    model = parse(
        """(float[N,3] x, bool q) => (float[N,3] y) <float[3] c = {1, 2, 3}>
        { t = Add(x, c)
          y = If(q)<then_branch = g () => (float[N,3] a) { dead = Exp(t) a = Neg(t) },
                    else_branch = h () => (float[N,3] b) <float[1] z = {0}> { b = Abs(x) }> }"""
    )
    after, change = apply(ELIMINATE, model, {"x": X, "q": np.array(True)})
    assert change.rewrites == 2
    assert after.op_counts() == {"Abs": 1, "Add": 1, "If": 1, "Neg": 1}


def test_a_dead_if_takes_what_its_branches_read() -> None:
    model = parse(
        """(float[N,3] x, bool q) => (float[N,3] y)
        { t = Exp(x)
          d = If(q)<then_branch = g () => (float[N,3] a) { a = Neg(t) },
                    else_branch = h () => (float[N,3] b) { b = Abs(t) }>
          y = Relu(x) }"""
    )
    after, change = apply(ELIMINATE, model, {"x": X, "q": np.array(True)})
    assert change.rewrites == 2
    assert after.op_counts() == {"Relu": 1}


def test_a_node_with_one_output_in_use_keeps_them_all() -> None:
    # Before opset 14 the number of outputs is what puts BatchNormalization in training mode.
    model = parse(
        """(float[2,3] x) => (float[2,3] y)
        { y, m, v, sm, sv = BatchNormalization(x, s, b, mean, var) }""",
        opset=9,
        **{name: np.ones(3, np.float32) for name in ("s", "b", "mean", "var")},
    )
    assert not apply(ELIMINATE, model)[1].changed


def test_a_dead_output_of_the_graph_is_no_contradiction() -> None:
    model = parse("(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Exp(x) z = Neg(x) }")
    assert not apply(ELIMINATE, model, {"x": X})[1].changed


def test_unused_opset_imports_go_and_the_standard_one_stays() -> None:
    model = parse("(float[N,3] x) => (float[N,3] y) { y = Exp(x) }")
    model.ir.opset_imports["com.microsoft"] = 1
    after, change = apply(ELIMINATE, Model(model.ir), {"x": X})
    assert change.rewrites == 1
    assert dict(after.ir.opset_imports) == {"": 17}
