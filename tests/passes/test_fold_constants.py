from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxpress.passes.fold_constants import FoldConstants
from zoo.graphs import answers, apply, parse

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
FOLD = FoldConstants()


def test_a_chain_of_constants_becomes_one_initializer() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y) <float[3] c = {1, 2, 3}>
        { k = Constant<value_float=2.0>() a = Exp(c) b = Mul(a, k) y = Add(x, b) }"""
    )
    after, change = apply(FOLD, model, {"x": X[0, 0, :, :3]})
    assert change.rewrites == 3
    assert after.op_counts() == {"Add": 1}
    assert list(after.ir.graph.initializers) == ["b"]


def test_known_dimensions_are_followed_past_free_ones() -> None:
    model = parse(
        """(float[N,3,4,5] x) => (float[a,b] y)
        <int64[1] one = {1}, int64[1] two = {2}, int64[1] end = {4}, int64[1] rest = {-1}>
        { s = Shape(x) tail = Slice(s, one, end) c = Gather<axis=0>(tail, one)
          d = Mul(c, two) t = Concat<axis=0>(rest, d) y = Reshape(x, t) }"""
    )
    after, change = apply(FOLD, model, {"x": X})
    assert change.rewrites == 4
    assert after.op_counts() == {"Reshape": 1, "Shape": 1}


def test_a_free_dimension_stays() -> None:
    model = parse(
        """(float[N,3,4,5] x) => (int64[1] y) <int64[1] zero = {0}>
        { s = Shape(x) y = Gather<axis=0>(s, zero) }"""
    )
    assert apply(FOLD, model, {"x": X})[1].rewrites == 0


def test_dimensions_are_moved_as_the_operators_move_them() -> None:
    # onnxscript 0.7.2 takes the second element here, not the second row.
    model = parse(
        """(float[N,3,4,5] x) => (int64[a,b] y) <int64[2] two = {2, 2}, int64[1] one = {1}>
        { s = Shape(x) r = Reshape(s, two) g = Gather<axis=0>(r, one) y = Neg(g) }"""
    )
    after, change = apply(FOLD, model, {"x": X})
    assert change.changed
    assert answers(after, {"x": X})[0].tolist() == [[-4, -5]]


def test_shape_of_a_part_and_size_count_as_well() -> None:
    model = parse(
        """(float[N,3,4,5] x, float[2,3] z) => (int64[1] y, int64[1] w, int64 v)
        { a = Shape<start=-2, end=-1>(x) y = Neg(a) b = Shape<start=0, end=1>(x) w = Neg(b)
          c = Size(z) v = Neg(c) }"""
    )
    after, change = apply(FOLD, model, {"x": X, "z": X[0, 0, :2, :3]})
    assert change.rewrites == 2
    assert after.op_counts() == {"Neg": 3, "Shape": 1}


def test_random_and_quantising_nodes_stay() -> None:
    model = parse(
        """(float[3] x) => (float[3] y, float[3] z)
        <float[3] c = {0.5, 0.5, 0.5}, float s = {0.1}, int8 zero = {0}, int8[3] q = {1, 2, 3}>
        { b = Bernoulli(c) y = Add(b, x) d = DequantizeLinear(q, s, zero) z = Add(d, x) }"""
    )
    assert apply(FOLD, model)[1].rewrites == 0


def test_an_output_of_the_graph_stays_a_node() -> None:
    model = parse(
        """(float[2] x) => (float[M] y, float[2] z) <float[2] c = {1, 2}>
        { y = Exp(c) z = Relu(x) }"""
    )
    assert apply(FOLD, model, {"x": X[0, 0, 0, :2]})[1].rewrites == 0


def test_one_output_of_several_may_be_read() -> None:
    model = parse(
        """(float[2] x) => (float[2] y) <float[4] c = {1, 2, 3, 4}>
        { a, b = Split<axis=0>(c) y = Add(x, b) }""",
        opset=13,
    )
    after, change = apply(FOLD, model, {"x": X[0, 0, 0, :2]})
    assert change.rewrites == 1
    assert list(after.ir.graph.initializers) == ["b"]


@pytest.mark.parametrize("readers", [1, 2])
def test_growth_is_bounded_and_what_is_freed_does_not_count(readers: int) -> None:
    weight = np.ones((600, 500), np.float32)
    other = "z = MatMul(x, w)" if readers == 2 else "z = Neg(x)"
    model = parse(
        f"""(float[N,600] x) => (float[N,a] y, float[N,b] z)
        {{ t = Transpose(w) u = Transpose(t) y = MatMul(x, u) {other} }}""",
        w=weight,
    )
    after, change = apply(FOLD, model)
    assert change.changed == (readers == 1)
    assert after.weight_bytes == weight.nbytes
    assert bool(change.refusals) == (readers == 2)


def test_a_huge_result_is_not_even_computed() -> None:
    model = parse(
        """(float[1] x) => (float[a,b] y) <int64[2] s = {1000000, 1000000}>
        { c = ConstantOfShape(s) y = Add(c, x) }"""
    )
    _, change = apply(FOLD, model)
    assert not change.changed
    assert "max_bytes" in change.refusals[0]


def test_past_the_total_only_what_does_not_grow_is_folded() -> None:
    parts = "".join(f"c{i} = ConstantOfShape(s) a{i} = Add(a{i - 1}, c{i}) " for i in range(1, 6))
    model = parse(
        f"""(float[100] x) => (float[100] y) <int64[1] s = {{100}}, float[1] h = {{2}}>
        {{ g = Exp(h) a0 = Mul(x, g) {parts} y = Neg(a5) }}"""
    )
    feeds = {"x": np.ones(100, np.float32)}
    after, change = apply(FoldConstants(max_total_bytes=1000), model, feeds)
    assert change.rewrites == 1
    assert "max_total_bytes" in change.refusals[0]
    assert after.op_counts()["ConstantOfShape"] == 5
    assert apply(FOLD, model, feeds)[0].op_counts() == {"Add": 5, "Mul": 1, "Neg": 1}


def test_initializers_that_are_inputs_become_constants() -> None:
    model = parse(
        """(float[2,3] x, int64[2] s = {3, 2}) => (float[3,2] y) { y = Reshape(x, s) }""",
        ir_version=3,
    )
    after, change = apply(FOLD, model, {"x": X[0, 0, :2, :3]})
    assert change.rewrites == 1
    assert [value.name for value in after.ir.graph.inputs] == ["x"]
    assert after.ir.ir_version >= 4


def test_constants_in_and_around_a_branch() -> None:
    model = parse(
        """(float[N,3] x, bool q) => (float[N,3] y) <float[3] c = {1, 2, 3}>
        { e = Exp(c)
          y = If(q)<then_branch = g () => (float[N,3] t) { i = Exp(e) t = Add(x, i) },
                    else_branch = h () => (float[N,3] u) { k = Constant<value_float=2.0>()
                                                           u = Mul(x, k) }> }"""
    )
    for condition in (True, False):
        feeds = {"x": X[0, 0, :, :3], "q": np.array(condition)}
        after, change = apply(FOLD, model, feeds)
        assert change.rewrites == 3
        assert after.op_counts() == {"Add": 1, "If": 1, "Mul": 1}


def test_the_live_branch_takes_the_place_of_its_if() -> None:
    # Both inner names and the outer `t` clash after inlining; one branch gives back an outer value.
    branch = """<then_branch = g () => (float[N,3] a) { m = Exp(t) a = Neg(m) },
                 else_branch = h () => (float[N,3] b) { m = Neg(t) b = Abs(m) }>"""
    model = parse(
        f"""(float[N,3] x, bool q) => (float[N,3] y, float[N,3] z, float[N,3] m2)
        <bool yes = {{1}}, bool no = {{0}}>
        {{ t = Relu(x) y = If(yes){branch} u = If(no){branch}
           m2 = If(yes)<then_branch = i () => (float[N,3] c) {{ c = Identity(t) }},
                        else_branch = j () => (float[N,3] d) {{ d = Neg(t) }}>
           z = If(q)<then_branch = k () => (float[N,3] e) {{
                         e = If(no){branch} }},
                     else_branch = l () => (float[N,3] f) {{ f = Neg(u) }}> }}"""
    )
    for condition in (True, False):
        feeds = {"x": X[0, 0, :, :3], "q": np.array(condition)}
        after, change = apply(FOLD, model, feeds)
        assert change.rewrites == 4
        assert after.op_counts()["If"] == 1


def test_nodes_of_a_branch_get_names_of_their_own() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y) <bool yes = {1}>
        { t = Relu(x)
          y = If(yes)<then_branch = g () => (float[N,3] a) { m = Neg(t) a = Abs(m) },
                      else_branch = h () => (float[N,3] b) { b = Neg(t) }> }"""
    )
    for node in model.nodes():
        node.name = "same" if node.op_type == "Relu" else node.op_type
        node.name = "same" if node.op_type == "Neg" else node.name
    after, change = apply(FOLD, model, {"x": X[0, 0, :, :3]})
    assert change.changed
    assert [node.name for node in after.ir.graph] == ["same", "same_1", "Abs"]


def test_constants_in_a_loop_body() -> None:
    model = parse(
        """(float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}, float[2] c = {1, 2}>
        { y = Loop(n, go, x)<body = b (int64 i, bool g, float[2] v) => (bool g2, float[2] w)
            { e = Exp(c) w = Add(v, e) g2 = Identity(g) }> }"""
    )
    after, change = apply(FOLD, model, {"x": X[0, 0, 0, :2]})
    assert change.rewrites == 1
    assert after.op_counts() == {"Add": 1, "Identity": 1, "Loop": 1}


def test_sequences_strings_and_old_split_are_left_alone() -> None:
    model = parse(
        """(float[4,3] x) => (float[a,b] y) <int64 two = {2}, int64 zero = {0}>
        { s = SplitToSequence<axis=0>(x, two) y = SequenceAt(s, zero) }""",
        opset=12,
    )
    assert not apply(FOLD, model, {"x": X[0, 0, :, :3]})[1].changed


def test_what_the_reference_cannot_evaluate_is_a_refusal() -> None:
    model = parse(
        """(float[2] x) => (float[2] y) <int64[1] s = {7}, float[4] c = {1, 2, 3, 4}>
        { r = Reshape(c, s) g = Gather<axis=0>(r, s) y = Add(x, g) }"""
    )
    _, change = FOLD.apply(model)
    assert not change.changed
    assert any("Reshape" in reason for reason in change.refusals)


def test_every_element_type_survives() -> None:
    import ml_dtypes

    half = np.arange(4, dtype=ml_dtypes.bfloat16)
    model = parse(
        """(bfloat16[4] x) => (bfloat16[4] y)
        { a = Identity(c) b = Identity(a) y = Add(x, b) }""",
        opset=14,
        c=half,
    )
    after, change = apply(FOLD, model)
    assert change.changed
    assert after.ir.graph.initializers["b"].dtype == ir.DataType.BFLOAT16
