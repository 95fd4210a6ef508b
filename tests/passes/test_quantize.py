"""The three quantisation passes on graphs small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.calibrator import Range
from onnxpress.errors import InputError
from onnxpress.machine import this_machine
from onnxpress.model import Model, load
from onnxpress.passes.quantize_dynamic import QuantizeDynamic
from onnxpress.passes.quantize_static import QuantizeStatic
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.quantization import (
    ACTIVATIONS,
    QuantizedWeight,
    activation_grid,
    quantize_weight,
)
from onnxpress.recipe import Facts, Ranges, Recipe
from onnxpress.values import constant, is_op
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.feeds import random_feeds
from onnxpress.verbs.schemes import Scheme
from zoo.digits import Digits

RNG = np.random.default_rng(0)
BITS = f"weight_bits={this_machine().weight_bits}"
"""Of which the products do not saturate here."""


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: list[object],
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return Model(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def run(candidate: Model, x: np.ndarray) -> list[np.ndarray]:
    proto = ir.to_proto(candidate.ir)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[np.ndarray] = session.run(None, {"x": x})
    return outputs


def statically(source: Model, x: np.ndarray, text: str = f"quantize_static({BITS})") -> Model:
    recipe = Recipe.parse(text)
    quantized, change = recipe.apply(source, gather(recipe, source, lambda: [{"x": x}]))
    assert change.changed, change.refusals
    again, second = recipe.apply(quantized, gather(recipe, source, lambda: [{"x": x}]))
    assert not second.changed
    assert again is quantized
    return quantized


def close(a: np.ndarray, b: np.ndarray, share: float = 0.03) -> None:
    np.testing.assert_allclose(a, b, atol=share * float(np.abs(b).max()))


def inputs_of(candidate: Model, op: str, index: int) -> list[str]:
    """The operators in front of input ``index`` of each ``op``."""
    found = []
    for node in candidate.ir.graph:
        value = node.inputs[index] if node.op_type == op else None
        producer = value.producer() if value is not None else None
        if producer is not None:
            found.append(producer.op_type)
    return found


def weight_errors(before: Model, after: Model) -> dict[str, float]:
    """Weight → the squared error of what its int8 values stand for."""
    found = {}
    for node in after.ir.graph:
        stored = node.inputs[0] if is_op(node, "DequantizeLinear") else None
        name = str(stored.name).removesuffix("_int8") if stored is not None else ""
        old = constant(before.ir.graph.initializers.get(name))
        if old is not None:
            values, scale = constant(stored), constant(node.inputs[1])
            assert values is not None
            assert scale is not None
            small = QuantizedWeight(values, scale, node.attributes.get_int("axis", 1))
            found[name] = float(np.square(small.nearest - old).sum())
    return found


class TestGrids:
    def test_uint8_covers_the_range_and_represents_zero(self) -> None:
        grid = activation_grid(Range(-1.0, 4.1), "uint8")
        assert grid.scale == pytest.approx(5.1 / 255)
        assert grid.zero_point == 50
        assert activation_grid(Range(1.0, 2.55), "uint8").zero_point == 0
        assert activation_grid(Range(1.0, 2.55), "uint8").scale == pytest.approx(0.01)

    def test_int8_is_symmetric(self) -> None:
        grid = activation_grid(Range(-2.54, 1.0), "int8")
        assert (grid.scale, grid.zero_point) == (pytest.approx(0.02), 0)

    @pytest.mark.parametrize("dtype", ACTIVATIONS)
    def test_every_type_covers_the_range_and_represents_zero(self, dtype: str) -> None:
        grid = activation_grid(Range(-3.0, 5.0), dtype)
        assert grid.zero_point.dtype == dtype
        low, high = grid.bounds
        assert low <= -3.0 + float(grid.scale)
        assert high == pytest.approx(5.0, abs=float(grid.scale))
        values = np.array([-3.0, -0.01, 0.0, 2.5, 5.0, 9.0], np.float32)
        near = grid.nearest(values)
        assert near.dtype == np.float32
        assert near[2] == 0
        np.testing.assert_allclose(near[:5], values[:5], atol=float(grid.scale))
        assert near[5] == np.float32(high)

    def test_a_tensor_of_zeros_has_a_scale(self) -> None:
        assert activation_grid(Range(0.0, 0.0), "uint8").scale == 1

    def test_weights_per_channel(self) -> None:
        weight = np.array([[1.27, -0.5], [0.0, 0.0], [2.54, 2.54]], np.float32)
        small = quantize_weight(weight, 0)
        assert small.scale.tolist() == pytest.approx([0.01, 1, 0.02])
        assert small.values.tolist() == [[127, -50], [0, 0], [127, 127]]
        assert np.abs(quantize_weight(weight, 0, bits=7).values).max() == 63


class TestStatic:
    def convolution(self, **attributes: object) -> onnx.NodeProto:
        return helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)

    @pytest.mark.parametrize("activations", ["uint8", "int8"])
    @pytest.mark.parametrize("group", [1, 2, 4])
    def test_a_convolution(self, activations: str, group: int) -> None:
        weights = {"w": normal(8, 4 // group, 3, 3), "b": normal(8)}
        source = model([self.convolution(group=group)], weights, ["n", 4, 9, 9])
        x = normal(5, 4, 9, 9)
        quantized = statically(source, x, f"quantize_static(activations={activations}, {BITS})")
        assert quantized.signature == source.signature
        close(run(quantized, x)[0], run(source, x)[0])
        assert inputs_of(quantized, "Conv", 0) == ["DequantizeLinear"]
        stored = {value.const_value.dtype for value in quantized.ir.graph.initializers.values()}  # type: ignore[union-attr]
        assert ir.DataType.INT8 in stored
        assert ir.DataType.INT32 in stored, "the bias"

    def test_the_int32_bias_cannot_overflow(self) -> None:
        weights = {"w": normal(2, 1, 1, 1) * 1e-9, "b": np.array([3.0, -4.0], np.float32)}
        source = model([self.convolution()], weights, ["n", 1, 4, 4])
        x = normal(2, 1, 4, 4)
        close(run(statically(source, x), x)[0], run(source, x)[0])

    @pytest.mark.parametrize("transposed", [0, 1])
    def test_gemm(self, transposed: int) -> None:
        weights = {"w": normal(5, 7) if transposed else normal(7, 5), "b": normal(5)}
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
        source = model([node], weights, ["n", 7])
        x = normal(20, 7)
        close(run(statically(source, x), x)[0], run(source, x)[0])

    def test_matmul(self) -> None:
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
        source = model([node], {"w": normal(7, 5)}, [3, 4, 7])
        x = normal(3, 4, 7)
        close(run(statically(source, x), x)[0], run(source, x)[0])
        batched = model([node], {"w": normal(3, 7, 5)}, [3, 4, 7])
        same, change = QuantizeStatic().apply(batched, Facts({Ranges(): {"x": Range(-1, 1)}}))
        assert same is batched, "ONNX Runtime has no kernel for it"
        assert change.refusals == ("m: its weight has 3 dimensions",)

    def test_one_pair_for_all_readers_of_an_activation(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Conv", ["x", "w"], ["b"]),
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Concat", ["a", "b", "r"], ["y"], axis=1),
        ]
        source = model(nodes, {"w": normal(2, 2, 1, 1)}, ["n", 2, 3, 3])
        x = normal(4, 2, 3, 3)
        quantized = statically(source, x)
        readers = [n for n in quantized.ir.graph if n.op_type == "QuantizeLinear" and
                   n.inputs[0] is quantized.ir.graph.inputs[0]]  # fmt: skip
        assert len(readers) == 1
        int8 = [v for v in quantized.ir.graph.initializers.values()
                if v.const_value is not None and v.const_value.dtype == ir.DataType.INT8
                and len(v.const_value.shape) == 4]  # fmt: skip
        assert len(int8) == 1, "shared weights stay shared"
        close(run(quantized, x)[0], run(source, x)[0])

    def test_residuals_and_pooling_stay_in_int8(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["p", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["c", "p"], ["s"]),
            helper.make_node("Conv", ["s", "w"], ["y"], pads=[1, 1, 1, 1]),
        ]
        source = model(nodes, {"w": normal(3, 3, 3, 3)}, ["n", 3, 8, 8])
        x = normal(4, 3, 8, 8)
        quantized = statically(source, x)
        assert inputs_of(quantized, "MaxPool", 0) == ["DequantizeLinear"]
        assert inputs_of(quantized, "Add", 0) == ["DequantizeLinear"]
        assert inputs_of(quantized, "Add", 1) == ["DequantizeLinear"]
        assert inputs_of(quantized, "Relu", 0) == ["Conv"], "the engine fuses the two"
        assert quantized.ir.graph.outputs[0].name == "y"
        close(run(quantized, x)[0], run(source, x)[0], 0.06)

    def test_adds_that_are_no_residual_stay_float(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Add", ["a", "x"], ["s"]),
            helper.make_node("Conv", ["image", "k"], ["c"]),
            helper.make_node("Add", ["c", "bias"], ["d"]),
            helper.make_node("ReduceMean", ["d"], ["m"], keepdims=0),
            helper.make_node("Add", ["s", "m"], ["y"]),
            helper.make_node("Reshape", ["x", "shape"], ["image"]),
        ]
        weights = {
            "w": normal(4, 4),
            "k": normal(2, 1, 1, 1),
            "bias": normal(1, 2, 1, 1),
            "shape": np.array([-1, 1, 2, 2], np.int64),
        }
        source = model([nodes[0], nodes[1], nodes[6], *nodes[2:6]], weights, ["n", 4])
        x = normal(6, 4)
        quantized = statically(source, x)
        assert inputs_of(quantized, "Add", 0)[0] == "MatMul"
        close(run(quantized, x)[0], run(source, x)[0], 0.06)

    def test_what_cannot_be_is_refused_with_the_reason(self) -> None:
        scaled = model(
            [helper.make_node("Gemm", ["x", "w"], ["y"], name="g", alpha=0.5)],
            {"w": normal(3, 3)},
            ["n", 3],
        )
        _, change = QuantizeStatic().apply(scaled, Facts({Ranges(): {"x": Range(-1, 1)}}))
        assert change.refusals == ("g: transA, alpha or beta is set",)
        plain = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
        _, change = QuantizeStatic().apply(model(plain, {"w": normal(3, 3)}, ["n", 3]), Facts())
        assert change.refusals == ("m: no range was observed for its input x",)
        old = model(plain, {"w": normal(3, 3)}, ["n", 3], opset=12)
        for step in (QuantizeStatic(), QuantizeWeights()):
            same, change = step.apply(old, Facts({Ranges(): {"x": Range(-1, 1)}}))
            assert same is old
            assert change.refusals == ("per-channel weights need opset 13",)

    def test_weights_that_are_not_finite_stay(self) -> None:
        bad = normal(3, 3)
        bad[0, 0] = np.nan
        source = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": bad}, ["n", 3])
        for step in (QuantizeStatic(), QuantizeDynamic(), QuantizeWeights()):
            assert not step.apply(source, Facts({Ranges(): {"x": Range(-1, 1)}}))[1].changed

    @pytest.mark.parametrize(("bits", "share"), [(4, 0.8), (8, 0.99)])
    def test_scales_that_lose_less_of_trained_weights(
        self, bits: int, share: float, digits: Digits
    ) -> None:
        source, _ = Scheme("static").prepared(load(digits.onnx))
        with np.load(digits.samples) as data:
            feeds = {"image": data["image"][:20]}
        lost = {}
        for scales in ("minmax", "mse"):
            step = QuantizeStatic(weight_bits=bits, scales=scales)
            after, change = step.apply(source, gather(step, source, lambda: [feeds]))
            assert change.rewrites
            lost[scales] = weight_errors(source, after)
        assert len(lost["mse"]) == 8
        assert all(lost["mse"][name] <= error for name, error in lost["minmax"].items())
        assert sum(lost["mse"].values()) < share * sum(lost["minmax"].values())

    @pytest.mark.parametrize(
        "field", ["activations=int4", "weight_bits=9", "weight_bits=1", "scales=max"]
    )
    def test_wrong_fields(self, field: str) -> None:
        with pytest.raises(InputError, match=field.partition("=")[0]):
            Recipe.parse(f"quantize_static({field})")


class TestDynamic:
    @pytest.mark.parametrize("transposed", [0, 1])
    def test_gemm_and_matmul_share_the_quantised_input(self, transposed: int) -> None:
        nodes = [
            helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=transposed),
            helper.make_node("MatMul", ["x", "v"], ["m"]),
            helper.make_node("Add", ["g", "m"], ["y"]),
        ]
        weights = {
            "w": normal(5, 7) if transposed else normal(7, 5),
            "b": normal(5),
            "v": normal(7, 5),
        }
        source = model(nodes, weights, ["n", 7])
        step = QuantizeDynamic(weight_bits=this_machine().weight_bits)
        quantized, change = step.apply(source)
        assert change.rewrites == 2
        assert quantized.op_counts()["DynamicQuantizeLinear"] == 1
        x = normal(30, 7)
        close(run(quantized, x)[0], run(source, x)[0])

    def test_the_output_keeps_its_name(self) -> None:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        quantized, _ = QuantizeDynamic().apply(model([node], {"w": normal(7, 5)}, ["n", 7]))
        assert [value.name for value in quantized.ir.graph.outputs] == ["y"]


class TestWeights:
    @pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
    def test_convolutions(self, op: str) -> None:
        node = helper.make_node(op, ["x", "w"], ["y"])
        source = model([node], {"w": normal(4, 4, 3, 3)}, ["n", 4, 6, 6])
        quantized, change = QuantizeWeights().apply(source)
        assert change.rewrites == 1
        assert quantized.weight_bytes < 0.4 * source.weight_bytes
        x = normal(2, 4, 6, 6)
        close(run(quantized, x)[0], run(source, x)[0])


@pytest.mark.parametrize("name", ["cnn", "cnn_bn", "mlp", "transformer"])
@pytest.mark.parametrize(
    "recipe", [f"quantize_static({BITS})", f"quantize_dynamic({BITS})", "quantize_weights"]
)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_zoo_on_both_engines(
    name: str, recipe: str, engine: str, zoo_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from onnxpress import registry
    from onnxpress.engine import Engine
    from onnxpress.settings import Settings

    source = load(zoo_model(name))
    feeds = random_feeds(source.signature, 8, 3)
    step = Recipe.parse(recipe)
    quantized, change = step.apply(source, gather(step, source, lambda: [feeds]))
    if not change.changed:
        pytest.skip(f"{name} has nothing for {recipe}")
    path = quantized.save(tmp_path / "q.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    opened = registry.create(Engine, "engines", engine)
    with opened.open(path, Settings(engine)) as session:
        mine = session.run(feeds)
    with opened.open(zoo_model(name), Settings(engine)) as session:
        theirs = session.run(feeds)
    for key, a in theirs.items():
        b = mine[key]
        cosine = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        assert cosine > 0.99, key
