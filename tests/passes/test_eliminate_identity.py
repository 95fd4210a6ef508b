from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.eliminate_identity import EliminateIdentity
from zoo.graphs import apply, parse

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
ELIMINATE = EliminateIdentity()


def remaining(body: str, opset: int = 17, **initializers: np.ndarray) -> dict[str, int]:
    """What is left of ``x → body → r → Relu → y``."""
    model = parse(
        f"(float[N,3] x) => (float[a,b] y) {{ {body} y = Relu(r) }}", opset, **initializers
    )
    # ONNX Runtime has no operators older than opset 7.
    return apply(ELIMINATE, model, {"x": X} if opset >= 7 else None)[0].op_counts()


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("r = Identity(x)", 17),
        ("a = Identity(x) b = Identity(a) r = Identity(b)", 17),
        ("r = Dropout(x)", 17),
        ("r, mask = Dropout(x)", 17),
        ("r, mask = Dropout(x)", 10),
        ("r = Dropout<is_test=1>(x)", 6),
        ("r = Cast<to=1>(x)", 17),
        ("r = Transpose<perm=[0, 1]>(x)", 17),
    ],
)
def test_no_ops_go(body: str, opset: int) -> None:
    assert remaining(body, opset) == {"Relu": 1}


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("r = Dropout(x)", 6),
        ("r = Cast<to=11>(x) y2 = Exp(x)", 17),
        ("r = Transpose<perm=[1, 0]>(x)", 17),
        ("r = Transpose(x)", 17),
    ],
)
def test_look_alikes_stay(body: str, opset: int) -> None:
    model = parse(
        f"(float[N,3] x) => (float[a,b] y) {{ {body} s = Cast<to=1>(r) y = Relu(s) }}", opset
    )
    after, _ = ELIMINATE.apply(model)
    assert set(after.op_counts()) & {"Dropout", "Cast", "Transpose"}


def test_a_dropout_whose_mask_is_read_stays() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y, bool[N,3] m) { r, m = Dropout(x) y = Relu(r) }"""
    )
    assert not apply(ELIMINATE, model, {"x": X})[1].changed


@pytest.mark.parametrize(("training", "left"), [(False, 0), (True, 1)])
def test_dropout_by_its_training_mode(training: bool, left: int) -> None:
    model = parse(
        "(float[N,3] x) => (float[N,3] y) <float p = {0.5}> { r = Dropout(x, p, t) y = Relu(r) }",
        t=np.array(training),
    )
    after, _ = apply(ELIMINATE, model)
    assert after.op_counts().get("Dropout", 0) == left


@pytest.mark.parametrize(
    ("body", "constant", "goes"),
    [
        ("r = Add(x, c)", 0, True),
        ("r = Add(c, x)", 0, True),
        ("r = Mul(c, x)", 1, True),
        ("r = Sub(x, c)", 0, True),
        ("r = Sub(c, x)", 0, False),
        ("r = Div(x, c)", 1, True),
        ("r = Div(c, x)", 1, False),
        ("r = Pow(x, c)", 1, True),
        ("r = Pow(c, x)", 1, False),
        ("r = Add(x, c)", 1, False),
        ("r = Mul(x, c)", 0, False),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3)])
def test_arithmetic_with_the_neutral_element(
    body: str, constant: int, goes: bool, shape: tuple[int, ...]
) -> None:
    left = remaining(body, c=np.full(shape, constant, np.float32))
    assert (left == {"Relu": 1}) == goes


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 3)])
def test_a_neutral_element_that_broadcasts_the_other_stays(shape: tuple[int, ...]) -> None:
    model = parse(
        "(float[4,3] x) => (float[a,b,c] y) { r = Add(x, k) y = Relu(r) }",
        k=np.zeros(shape, np.float32),
    )
    assert not apply(ELIMINATE, model, {"x": X})[1].changed


@pytest.mark.parametrize(
    ("target", "goes"),
    [([0, 3], True), ([-1, 3], True), ([0, -1], True), ([0, 0], True), ([3, -1], False)],
)
def test_reshape_to_the_shape_that_is_there(target: list[int], goes: bool) -> None:
    left = remaining("r = Reshape(x, s)", s=np.array(target, np.int64))
    assert (left == {"Relu": 1}) == goes


def test_a_graph_output_keeps_its_name_and_type() -> None:
    model = parse(
        """(float[N,3] x) => (float[M,3] y) <float[N,3] r> { r = Relu(x) y = Identity(r) }"""
    )
    after, change = apply(ELIMINATE, model, {"x": X})
    assert change.rewrites == 1
    assert after.op_counts() == {"Relu": 1}


def test_from_input_or_constant_to_output_stays() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y, float[2] z) <float[2] c = {1, 2}>
        { y = Identity(x) z = Identity(c) }"""
    )
    assert not apply(ELIMINATE, model, {"x": X})[1].changed


def test_one_value_does_not_become_two_outputs() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y, float[N,3] z, float[N,3] w)
        { y = Relu(x) z = Identity(y) e = Exp(x) w = Identity(e) }"""
    )
    after, change = apply(ELIMINATE, model, {"x": X})
    assert change.rewrites == 1
    assert [output.name for output in after.ir.graph.outputs] == ["y", "z", "w"]


def test_two_copies_of_one_value_leave_one() -> None:
    model = parse(
        """(float[N,3] x) => (float[N,3] y, float[N,3] z)
        { r = Relu(x) y = Identity(r) z = Identity(r) }"""
    )
    assert apply(ELIMINATE, model, {"x": X})[0].op_counts() == {"Relu": 1, "Identity": 1}


def test_a_branch_that_gives_back_an_outer_value_keeps_its_copy() -> None:
    # onnx-ir's own pass makes the outer value the branch's output here, which ONNX forbids.
    model = parse(
        """(float[N,3] x, bool q) => (float[N,3] y)
        { t = Relu(x)
          y = If(q)<then_branch = g () => (float[N,3] a) { a = Identity(t) },
                    else_branch = h () => (float[N,3] b) { i = Identity(t) b = Neg(i) }> }"""
    )
    for condition in (True, False):
        after, change = apply(ELIMINATE, model, {"x": X, "q": np.array(condition)})
        assert change.rewrites == 1
        assert after.op_counts() == {"Identity": 1, "If": 1, "Neg": 1, "Relu": 1}


def test_a_loop_keeps_what_it_carries() -> None:
    model = parse(
        """(float[4,3] x) => (float[4,3] y) <int64 n = {3}, bool go = {1}>
        { y = Loop(n, go, x)<body = b (int64 i, bool g, float[4,3] v) => (bool g2, float[4,3] w)
            { c = Identity(v) w = Exp(c) g2 = Identity(g) }> }"""
    )
    after, change = apply(ELIMINATE, model, {"x": np.zeros((4, 3), np.float32) - 3})
    assert change.rewrites == 1
    assert after.op_counts() == {"Exp": 1, "Identity": 1, "Loop": 1}


def test_an_input_keeps_its_shape() -> None:
    # onnx-ir's own pass writes the copy's shape over the input's.
    model = parse(
        """(float[N,M] x) => (float[a,b] y) <float[N,3] r> { r = Identity(x) y = Relu(r) }"""
    )
    assert apply(ELIMINATE, model, {"x": X})[1].rewrites == 1


@pytest.mark.parametrize(
    ("body", "goes"),
    [
        ("s = Shape(x) z = ConstantOfShape(s) r = Add(x, z)", True),
        ("s = Shape(x) z = ConstantOfShape(s) n = Mul(z, none) r = Add(n, x)", True),
        ("s = Shape(x) z = Expand(none, s) r = Sub(x, z)", True),
        ("s = Shape(x) z = Expand(one, s) r = Mul(x, z)", True),
        ("s = Shape(x) z = Expand(one, s) r = Add(x, z)", False),
        ("z = ConstantOfShape(more) r = Add(x, z)", False),  # it gets a dimension more
        ("s = Shape(x) z = ConstantOfShape(s) r = Mul(x, z)", False),
    ],
)
def test_one_number_everywhere_is_a_constant(body: str, goes: bool) -> None:
    given = {
        "none": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "more": np.array([1, 1, 1]),
    }
    model = parse(
        f"(float[N,3] x) => (float[a,b] y) {{ {body} y = Relu(r) }}",
        **{name: array for name, array in given.items() if name in body},
    )
    assert apply(ELIMINATE, model, {"x": X})[1].rewrites == goes
