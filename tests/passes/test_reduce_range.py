"""``reduce_range``: no two products saturate where a CPU adds them in 16 bits."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.machine import this_machine
from onnxpress.model import Model
from onnxpress.quantization import pair_sums, quantize_weight, unsaturated_scale
from onnxpress.recipe import Recipe
from onnxpress.settings import Settings
from onnxpress.verbs.calibrate import applied, gather
from zoo.graphs import parse

SATURATES = pytest.mark.skipif(not this_machine().saturates, reason="this CPU has a dot product")
PRODUCTS = {
    "MatMul": ("float[n,67]", "MatMul(x, w)", (67, 9)),
    "Gemm": ("float[n,34]", "Gemm <transB=1> (x, w)", (9, 34)),
    "halves of 129": ("float[n,258]", "MatMul(x, w)", (258, 9)),
    "halves of 225": ("float[n,450]", "Gemm <transB=1> (x, w)", (9, 450)),
    "groups of 258": ("float[n,516,2,2]", "Conv <group=2> (x, w)", (8, 258, 1, 1)),
    "Conv 1 channel": ("float[n,1,7,7]", "Conv(x, w)", (8, 1, 3, 3)),
    "Conv 3 channels": ("float[n,3,7,7]", "Conv(x, w)", (8, 3, 3, 3)),
    "Conv 5 channels": ("float[n,5,7,7]", "Conv(x, w)", (16, 5, 3, 3)),
    "Conv 16 channels": ("float[n,16,7,7]", "Conv(x, w)", (16, 16, 3, 3)),
    "Conv 1x1": ("float[n,33,7,7]", "Conv(x, w)", (16, 33, 1, 1)),
    "groups": ("float[n,6,7,7]", "Conv <group=2> (x, w)", (8, 3, 3, 3)),
    "depthwise": ("float[n,8,7,7]", "Conv <group=8> (x, w)", (8, 1, 3, 3)),
    "depth multiplier": ("float[n,8,7,7]", "Conv <group=8> (x, w)", (16, 1, 3, 3)),
    "signal": ("float[n,5,9]", "Conv(x, w)", (8, 5, 3)),
    "volume": ("float[n,3,4,4,4]", "Conv(x, w)", (8, 3, 2, 2, 3)),
}

ENGINES = ("onnxruntime", "openvino")
UNSATURATED = (
    ("depthwise", "onnxruntime"),
    ("depthwise", "openvino"),
    ("Conv 1 channel", "openvino"),
    ("depth multiplier", "openvino"),
    ("halves of 129", "onnxruntime"),
    ("halves of 225", "onnxruntime"),
    ("groups of 258", "onnxruntime"),
)
"""What adds no two of these in 16 bits."""


def product(kind: str) -> tuple[Model, np.ndarray]:
    """One of ``PRODUCTS`` between two ReLUs, and samples: runs of 0 and of the largest value."""
    shape, call, weight = PRODUCTS[kind]
    rng = np.random.default_rng(len(kind))
    body = f"r = Relu(x) y = {call} z = Relu(y)"
    w = np.abs(rng.standard_normal(weight)).astype(np.float32)
    if "halves" in kind or "258" in kind:  # pairs that begin at odd places are the largest
        inputs = np.arange(max(weight)).reshape((-1, 1) if call.startswith("M") else (-1,))
        w = np.where(np.isin(inputs % 4, (1, 2)), 1, 0.001) * np.ones(weight[:2])
        w = w.reshape(weight).astype(np.float32)
    source = parse(
        f"({shape} x) => (float[{','.join('abcde'[: len(shape.split(','))])}] z) {{ {body} }}", w=w
    )
    sizes = [int(size) for size in shape[:-1].split(",")[1:]]
    x = np.where(rng.random((40, *sizes)) < 0.8, np.float32(1), np.float32(0))
    x[0] = 1
    return source, x


def error(quantized: Model, engine: str, x: np.ndarray, folder: Path) -> float:
    """Of the engine's int8 kernels beside exact arithmetic on the same integers, over the most."""
    inputs = {value.name for value in quantized.ir.graph.inputs}
    assert inputs == {"x"}
    with registry.create(Engine, "engines", engine).open(
        quantized.save(folder / "int8.onnx"), Settings(engine)
    ) as session:
        got = session.run({"x": x})["z"]
    exact = Settings("onnxruntime", options={"session.disable_quant_qdq": "1"})
    with registry.create(Engine, "engines", "onnxruntime").open(
        folder / "int8.onnx", exact
    ) as session:
        wanted = session.run({"x": x})["z"]
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def quantized(source: Model, x: np.ndarray, text: str) -> Model:
    step = Recipe.parse(text)
    made, change = applied(
        step, source, lambda each, model: gather(each, model, lambda: [{"x": x}])
    )
    assert change.rewrites
    return made


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", PRODUCTS)
def test_nothing_saturates(kind: str, engine: str, tmp_path: Path) -> None:
    source, x = product(kind)
    made = quantized(source, x, "quantize_static(reduce_range=True)")
    assert error(made, engine, x, tmp_path) < 0.01


@SATURATES
@pytest.mark.parametrize(
    ("kind", "engine"), sorted({*itertools.product(PRODUCTS, ENGINES)} - {*UNSATURATED})
)
def test_without_it_this_cpu_saturates(kind: str, engine: str, tmp_path: Path) -> None:
    source, x = product(kind)
    assert error(quantized(source, x, "quantize_static"), engine, x, tmp_path) > 0.02


@pytest.mark.parametrize("transposed", [0, 1])
def test_dynamic(transposed: int, tmp_path: Path) -> None:
    weight = np.abs(np.random.default_rng(0).standard_normal((66, 8))).astype(np.float32)
    source = parse(
        f"(float[n,66] x) => (float[n,8] z) {{ z = Gemm <transB={transposed}> (x, w) }}",
        w=weight.T.copy() if transposed else weight,
    )
    x = np.ones((4, 66), np.float32)
    made = quantized(source, x, "quantize_dynamic(reduce_range=True)")
    path = made.save(tmp_path / "int8.onnx")
    with registry.create(Engine, "engines", "onnxruntime").open(
        path, Settings("onnxruntime")
    ) as session:
        got = session.run({"x": x})["z"]
    np.testing.assert_allclose(got, x @ weight, rtol=0.01)


class TestPairs:
    def test_neighbours_along_the_inputs(self) -> None:
        weight = np.array([[1, -5], [2, 4], [9, 0], [-8, 1], [7, 3]], np.float32)
        np.testing.assert_array_equal(pair_sums(weight, 1), [11, 5])
        np.testing.assert_array_equal(pair_sums(weight.T, 0), [11, 5])

    def test_of_a_convolution_by_channels_and_by_taps(self) -> None:
        weight = np.zeros((1, 3, 1, 2), np.float32)
        weight[0, 0, 0] = 1, 10  # beside channel 1 at each tap, beside one another
        weight[0, 1, 0] = 2, 20
        weight[0, 2, 0] = 40, 0  # channels first: beside the last tap of channel 1
        assert pair_sums(weight, 0) == [60]

    def test_a_single_input_has_no_neighbour(self) -> None:
        np.testing.assert_array_equal(pair_sums(np.array([[3.0, -4.0]]), 1), [3, 4])

    def test_is_finer_than_seven_bits_and_never_beyond_what_fits(self) -> None:
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((384, 50)).astype(np.float32)
        weight[:2] = 8.0  # the worst: the two largest are neighbours
        small = quantize_weight(weight, 1, 8, unsaturated_scale(weight, 1))
        assert pair_sums(small.values.astype(int), 1).max() <= 128
        assert (small.scale <= quantize_weight(weight, 1, 7).scale).all()
        usual = rng.standard_normal((384, 50)).astype(np.float32)
        scale = quantize_weight(usual, 1, 8, unsaturated_scale(usual, 1)).scale
        assert scale.mean() < 0.75 * quantize_weight(usual, 1, 7).scale.mean()
