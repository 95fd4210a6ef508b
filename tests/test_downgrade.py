"""Opset 18 in opset 17's words: the same numbers, or the node that has no such words."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxpress.downgrade import to_17, to_19
from onnxpress.errors import ModelError
from onnxpress.model import Model
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


@pytest.mark.parametrize("dtype", ["float", "float16", "double"])
@pytest.mark.parametrize("how", ["", '<approximate="tanh">'])
def test_gelu_is_written_out(how: str, dtype: str) -> None:
    before = parse(
        f"({dtype}[b,3] x) => ({dtype}[b,3] y, {dtype}[b,3] z) "
        f"{{ h = Gelu{how}(x) y = Gelu{how}(h) z = Relu(h) }}",
        opset=20,
        ir_version=9,
    )
    after = to_19(before)
    assert "Gelu" not in after.op_counts()
    assert (before.ir.opset_imports[""], after.ir.opset_imports[""]) == (20, 19)
    kind = {"float": np.float32, "double": np.float64}.get(dtype, np.float16)
    x = np.linspace(-6, 6, 30, dtype=kind).reshape(10, 3)
    # By ONNX's reference: ONNX Runtime on a CPU has no Gelu of the other two types, or no Erf.
    one, two = (
        ReferenceEvaluator(ir.to_proto(each.ir)).run(None, {"x": x}) for each in (before, after)
    )
    near = {"rtol": 1e-2, "atol": 5e-3} if dtype == "float16" else {"rtol": 1e-5, "atol": 1e-6}
    for a, b in zip(one, two, strict=True):
        assert a.dtype == b.dtype == kind
        np.testing.assert_allclose(a, b, **near)


def test_modes_of_grid_sample_have_their_old_names() -> None:
    before = parse(
        "(float[b,3,4,6] x) => (float[b,3,2,2] y) { y = GridSample<mode=\"linear\">(x, g) }",
        g=np.random.default_rng(1).uniform(-1, 1, (2, 2, 2, 2)).astype(np.float32),
        opset=20, ir_version=9,
    )  # fmt: skip
    after = to_19(before)
    np.testing.assert_allclose(
        answers(before, {"x": X})[0], answers(after, {"x": X})[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(float[2,2,3] t, int64[4] s) => (float[g,h,w,c] y) { y = AffineGrid(t, s) }", "Affine"),
        ("(float[2,8,1] t) => (float[2,8,2] y) { y = DFT(t) }", "DFT is another one"),
    ],
)
def test_19_cannot_express(text: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"opset 19 cannot express.*{why}"):
        to_19(parse(text, opset=20, ir_version=9))


def test_new_values_are_named_apart_in_every_graph() -> None:
    before = parse(
        """(float[n,3] x, bool c) => (float[n,3] y) {
            val_0 = Gelu(x)
            y = If (c) <then_branch = t () => (float[n,3] a) { a = Gelu(val_0) },
                        else_branch = e () => (float[n,3] b) { b = Gelu(val_0) }> }""",
        20,
        9,
    )
    after = to_19(before)
    feeds = {"x": X[0, 0, :3, :3], "c": np.array(True)}
    (one,), (two,) = answers(before, feeds), answers(after, feeds)
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_functions_go_down_with_the_rest() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 20, "my": 1]>
        g (float[n,3] x) => (float[n,3] y) { y = my.F(x) }
        <domain: "my", opset_import: ["": 20]> F (a) => (b) { b = Gelu(a) }""")
    before = Model(ir.from_proto(proto))
    after = to_19(before)
    assert "Gelu" not in after.op_counts()
    (one,), (two,) = (answers(each, {"x": X[0, 0, :3, :3]}) for each in (before, after))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
