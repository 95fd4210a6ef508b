from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes.inline_functions import InlineFunctions
from zoo.graphs import answers, apply

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
INLINE = InlineFunctions()
HEADER = '<ir_version: 8, opset_import: ["": 17, "own": 1]>'


def model(graph: str, *functions: str, opset: int = 17) -> Model:
    header = f'<domain: "own", opset_import: ["": {opset}, "own": 1]>'
    text = f"{HEADER} graph {graph} " + " ".join(f"{header} {text}" for text in functions)
    return Model(ir.from_proto(onnx.parser.parse_model(text)))


def test_calls_of_calls_in_graph_and_branch() -> None:
    found = model(
        """(float[N,3] x, bool q) => (float[N,3] y)
        { t = own.twice(x)
          y = If(q)<then_branch = g () => (float[N,3] a) { a = own.twice(t) },
                    else_branch = h () => (float[N,3] b) { t2 = own.inc(t) b = Neg(t2) }> }""",
        "inc (t) => (r) { one = Constant<value_float=1.0>() r = Add(t, one) }",
        "twice (a) => (c) { b = own.inc(a) c = own.inc(b) }",
    )
    for condition in (True, False):
        after, change = apply(INLINE, found, {"x": X, "q": np.array(condition)})
        assert change.rewrites == 3
        assert not after.ir.functions
        assert after.op_counts() == {"Add": 5, "Constant": 5, "If": 1, "Neg": 1}


def test_a_function_that_gives_back_its_input_keeps_the_outputs_apart() -> None:
    found = model(
        "(float[N,3] x) => (float[N,3] y, float[N,3] z) { y, z = own.both(x) }",
        "both (a) => (a, b) { b = Neg(a) }",
    )
    after, change = INLINE.apply(found)
    assert change.rewrites == 1
    assert [output.name for output in after.ir.graph.outputs] == ["y", "z"]
    assert [array.tolist() for array in answers(after, {"x": X})] == [X.tolist(), (-X).tolist()]


def test_attributes_and_their_defaults_arrive() -> None:
    found = model(
        "(float[N,3] x) => (float[N,3] y) { t = own.leak<slope=0.5>(x) y = own.leak(t) }",
        "leak <slope: float = 0.1> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) }",
    )
    assert apply(INLINE, found, {"x": X})[0].op_counts() == {"LeakyRelu": 2}


def test_another_opset_is_a_refusal() -> None:
    found = model(
        "(float[N,3] x) => (float[N,3] y) { y = own.inc(x) }",
        "inc (t) => (r) { one = Constant<value_float=1.0>() r = Add(t, one) }",
        opset=16,
    )
    after, change = INLINE.apply(found)
    assert after is found
    assert "opset 16" in change.refusals[0]
