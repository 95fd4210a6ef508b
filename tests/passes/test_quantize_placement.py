"""Where quantize_static puts its pairs: convolutions must really run in int8, on every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.machine import this_machine
from onnxpress.macs import macs_per_node
from onnxpress.model import Model
from onnxpress.passes.quantize_dynamic import QuantizeDynamic
from onnxpress.passes.quantize_static import QuantizeStatic
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.recipe import Pass
from onnxpress.settings import Settings
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.executed import int8_macs_share
from zoo.graphs import answers, parse, serialized

ENGINES = ["onnxruntime", "openvino"]
HEAD = "(float[4,8,16,16] x) => (float[4,8,16,16] y) {\n first = Conv<pads=[1,1,1,1]>(x, w, b)\n"
TAIL = "\n y = Conv<pads=[1,1,1,1]>(t, w, b)\n}"
BODIES = {
    "nothing": "t = Identity(first)",
    "relu": "t = Relu(first)",
    "relu6": "t = Clip(first, zero, six)",
    "a clip that ends between two integers": "t = Clip(first, low, one)",
    "a clip without zero": "t = Clip(first, one, six)",
    "a clip with computed bounds": "m = ReduceMax<keepdims=0>(x)\n t = Clip(first, zero, m)",
    "leaky relu": "t = LeakyRelu<alpha=0.1>(first)",
    "silu": "s = Sigmoid(first)\n t = Mul(first, s)",
    "hard swish": "t = HardSwish(first)",
    "prelu": "t = PRelu(first, slope)",
    "residual": "r = Relu(first)\n c = Conv<pads=[1,1,1,1]>(r, w, b)\n a = Add(c, r)\n t = Relu(a)",
    "residual of what is pooled": "p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(first)\n"
    " t = Add(p, first)",
    "added constant": "t = Add(first, slope)",
    "concat": "r = Relu(first)\n d = Concat<axis=1>(r, first)\n t = Conv(d, narrow)",
    "concat with a constant": "d = Concat<axis=1>(first, fill)\n t = Conv(d, narrow)",
    "concat with a float value": "d = Concat<axis=1>(first, x)\n t = Conv(d, narrow)",
    "read by a float operator too": "r = Relu(first)\n c = Conv<pads=[1,1,1,1]>(r, w, b)\n"
    " e = Exp(r)\n s = ReduceMean<axes=[2,3]>(e)\n t = Add(c, s)",
    "depthwise": "r = Relu(first)\n t = Conv<group=8, pads=[1,1,1,1]>(r, deep)",
    "squeeze and excite": "m = GlobalAveragePool(first)\n q = Conv(m, point)\n s = Sigmoid(q)\n"
    " t = Mul(first, s)",
    "average pooling": "t = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(first)",
    "channel shuffle": "sh = Constant<value_ints=[0, 2, 4, 256]>()\n r = Reshape(first, sh)\n"
    " q = Transpose<perm=[0,2,1,3]>(r)\n back = Constant<value_ints=[0, 8, 16, 16]>()\n"
    " t = Reshape(q, back)",
}


def noise(*shape: int) -> np.ndarray:
    generator = np.random.default_rng(int(np.prod(shape)))
    return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


CONSTANTS = {
    "w": 2 * noise(8, 8, 3, 3),
    "b": noise(8),
    "narrow": noise(8, 16, 1, 1),
    "point": noise(8, 8, 1, 1),
    "deep": noise(8, 1, 3, 3),
    "slope": np.abs(noise(8, 1, 1)),
    "fill": noise(4, 8, 16, 16),
    "zero": np.float32(0),
    "one": np.float32(0.1),
    "six": np.float32(0.6),
    "low": np.float32(-0.1),
}


def convolutions(body: str) -> Model:
    """Two convolutions around ``body``, which makes ``t`` of ``first``."""
    text = HEAD + body + TAIL
    used = {name: array for name, array in CONSTANTS.items() if _reads(text, name)}
    return named(parse(text, **used))


def _reads(text: str, name: str) -> bool:
    return any(f"{before}{name}{after}" in text for before in "( " for after in ",)")


def named(model: Model) -> Model:
    """With a name for each node, which engines need to say what they ran."""
    for index, node in enumerate(model.ir.graph):
        node.name = f"n{index}"
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model.ir))
    return Model(ir.from_proto(proto))


def calibrated(step: Pass, model: Model, feeds: dict[str, np.ndarray]) -> Model:
    """Quantised, with all that must hold of any scheme checked on the way."""
    before = serialized(model)
    after, change = step.apply(model, gather(step, model, lambda: [feeds]))
    assert serialized(model) == before
    assert change.changed, change.refusals
    onnx.checker.check_model(ir.to_proto(after.ir), full_check=True)
    assert serialized(after) == serialized(
        step.apply(model, gather(step, model, lambda: [feeds]))[0]
    )
    again, change = step.apply(after, gather(step, model, lambda: [feeds]))
    assert again is after, change
    return after


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 8, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_every_convolution_runs_in_int8(
    engine: str, body: str, x: np.ndarray, tmp_path: Path
) -> None:
    model = convolutions(body)
    step = QuantizeStatic(weight_bits=this_machine().weight_bits)
    quantized = calibrated(step, model, {"x": x})
    path = quantized.save(tmp_path / "q.onnx")
    with registry.create(Engine, "engines", engine).open(path, Settings(engine)) as session:
        (y,) = session.run({"x": x}).values()
        assert int8_macs_share(session.executed(), macs_per_node(model)) == 1
    assert cosine(y, answers(model, {"x": x})[0]) > 0.99


@pytest.mark.parametrize(
    ("readers", "origin"),
    [("t = Conv(d, narrow)", "DequantizeLinear"), ("e = Exp(d)\n t = Conv(e, narrow)", "Softmax")],
)
def test_a_concat_of_integers_and_floats(readers: str, origin: str, x: np.ndarray) -> None:
    """Before a layer the floats become integers as well: the engine joins nothing else in int8."""
    model = convolutions(f"m = Softmax(x)\n d = Concat<axis=1>(first, m)\n {readers}")
    quantized = calibrated(QuantizeStatic(), model, {"x": x})
    (concat,) = (node for node in quantized.ir.graph if node.op_type == "Concat")
    producers = [value.producer() for value in concat.inputs if value is not None]
    assert [node and node.op_type for node in producers] == ["DequantizeLinear", origin]


def test_a_result_that_is_output_and_read_on(x: np.ndarray) -> None:
    model = convolutions("t = Relu(first)")
    model.ir.graph.outputs.append(model.ir.graph.node(1).outputs[0])
    quantized = calibrated(QuantizeStatic(), model, {"x": x})
    assert [value.name for value in quantized.ir.graph.outputs] == ["y", "t"]
    assert {n.op_type for n in (v.producer() for v in quantized.ir.graph.outputs) if n} == {
        "DequantizeLinear"
    }
    for mine, theirs in zip(answers(quantized, {"x": x}), answers(model, {"x": x}), strict=True):
        assert cosine(mine, theirs) > 0.99


STEPS: list[Pass] = [QuantizeStatic(), QuantizeDynamic(), QuantizeWeights()]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_names_that_are_taken(step: Pass) -> None:
    """By values, by nodes' outputs, and inside a branch that reads a value around it."""
    text = """(float[n,4] x, bool k) => (float[n,4] y) {
        x_scale = Relu(x)
        w_scale = MatMul(x_scale, w)
        val_9 = MatMul(w_scale, w)
        y = If(k) <
            then_branch = a () => (float[n,4] val_0) { val_1 = Abs(val_9)  val_0 = Neg(val_1) },
            else_branch = b () => (float[n,4] val_2) { x_zero = Neg(w_scale)  val_2 = Abs(x_zero) }
        >
    }"""
    model = named(parse(text, w=noise(4, 4)))
    feeds = {"x": noise(20, 4), "k": np.array(True)}
    quantized = calibrated(step, model, feeds)
    for taken in (True, False):
        chosen = {**feeds, "k": np.array(taken)}
        assert cosine(answers(quantized, chosen)[0], answers(model, chosen)[0]) > 0.99


def test_a_shared_weight_is_wide_enough_for_every_bias() -> None:
    text = """(float[n,1,4,4] x) => (float[n,1,4,4] y, float[n,1,4,4] z) {
        y = Conv(x, w, small)
        z = Conv(x, w, large)
    }"""
    model = named(
        parse(
            text,
            w=np.full((1, 1, 1, 1), 1e-8, np.float32),
            small=np.array([1e-8], np.float32),
            large=np.array([5], np.float32),
        )
    )
    x = noise(3, 1, 4, 4)
    y, z = answers(calibrated(QuantizeStatic(), model, {"x": x}), {"x": x})
    np.testing.assert_allclose(z, 5, rtol=1e-3)
    assert cosine(y, answers(model, {"x": x})[0]) > 0.99


@pytest.mark.parametrize("bias", [np.nan, np.inf])
def test_a_bias_that_is_not_finite_stays(bias: float) -> None:
    model = named(
        parse(
            "(float[n,1,4,4] x) => (float[n,1,4,4] y) { y = Conv(x, w, b) }",
            w=noise(1, 1, 1, 1),
            b=np.array([bias], np.float32),
        )
    )
    x = noise(3, 1, 4, 4)
    y = answers(calibrated(QuantizeStatic(), model, {"x": x}), {"x": x})[0]
    np.testing.assert_array_equal(y, np.full_like(y, bias))


def test_a_gemm_with_its_bias_in_a_row() -> None:
    text = "(float[n,6] x) => (float[n,4] y) { y = Gemm(x, w, c) }"
    model = named(parse(text, w=noise(6, 4), c=noise(1, 4)))
    x = noise(9, 6)
    quantized = calibrated(QuantizeStatic(), model, {"x": x})
    bias = quantized.ir.graph.node("n0").inputs[2]
    assert bias is not None
    assert bias.producer() is not None, "the bias is int32"
    assert cosine(answers(quantized, {"x": x})[0], answers(model, {"x": x})[0]) > 0.99


def test_shared_weights_are_stored_once() -> None:
    text = """(float[n,64] x) => (float[n,64] y) {
        a = MatMul(x, w)
        y = MatMul(a, w)
    }"""
    model = named(parse(text, w=noise(64, 64)))
    for step in STEPS:
        quantized = calibrated(step, model, {"x": noise(9, 64)})
        assert quantized.weight_bytes < 0.35 * model.weight_bytes, step


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_weights_of_zeros_and_no_weights(step: Pass) -> None:
    text = "(float[n,4] x) => (float[n,3] y) { y = MatMul(x, w) }"
    zeros = calibrated(step, named(parse(text, w=np.zeros((4, 3), np.float32))), {"x": noise(5, 4)})
    assert not answers(zeros, {"x": noise(5, 4)})[0].any()
    empty = named(parse(text.replace("[n,3]", "[n,0]"), w=np.zeros((4, 0), np.float32)))
    assert not step.apply(empty, gather(step, empty, lambda: [{"x": noise(5, 4)}]))[1].changed


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_recurrent_layers_and_other_domains_stay(step: Pass) -> None:
    text = """(float[s,n,3] x) => (float[s,1,n,4] y) {
        y, h, c = LSTM<hidden_size=4>(x, w, r)
    }"""
    model = named(parse(text, w=noise(1, 16, 3), r=noise(1, 16, 4)))
    assert not step.apply(model, gather(step, model, lambda: [{"x": noise(2, 5, 3)}]))[1].changed
