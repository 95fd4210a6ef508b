"""What quantisation leaves in the results of layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnxpress.model import Model
from onnxpress.passes.quantize_weights import QuantizeWeights
from onnxpress.verbs.noise import added_noise, noise
from onnxpress.verbs.sensitivity import Layer, _spearman
from zoo.graphs import Array, parse

CHAIN = """(float[n,16] x) => (float[n,16] y) {
    a = MatMul(x, first)  b = Relu(a)  c = MatMul(b, second)  d = Relu(c)  y = MatMul(d, third) }"""
LAYERS = ("one", "two", "three")
RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.standard_normal((16, 16)).astype(np.float32) for name in ("first", "second", "third")
}


def chain(**weights: Array) -> Model:
    model = parse(CHAIN, **{**WEIGHTS, **weights})
    for name, node in zip(
        LAYERS, [n for n in model.ir.graph if n.op_type == "MatMul"], strict=True
    ):
        node.name = name
    return model


def batches() -> Iterator[dict[str, Array]]:
    rng = np.random.default_rng(1)
    for _ in range(8):
        yield {"x": rng.standard_normal((16, 16)).astype(np.float32)}


@pytest.mark.parametrize("noisy", LAYERS)
def test_a_layer_adds_its_own_noise_only(noisy: str) -> None:
    others = tuple(name for name in LAYERS if name != noisy)
    quantized, _ = QuantizeWeights(bits=3, exclude=others).apply(chain())
    added = added_noise(LAYERS, chain(), quantized, batches)
    whole = noise(LAYERS, chain(), quantized, batches)
    assert added[noisy] > 0.01
    for name in others:
        assert added[name] < 1e-9
        assert (whole[name] > 1e-3) == (LAYERS.index(name) > LAYERS.index(noisy))


def test_scales_and_shifts_of_channels_are_no_noise() -> None:
    s = RNG.uniform(0.1, 10, 16).astype(np.float32)
    moved = chain(first=WEIGHTS["first"] * s, second=WEIGHTS["second"] / s[:, None])
    found = noise(LAYERS, chain(), moved, batches)
    assert set(found) == set(LAYERS)
    assert max(found.values()) < 1e-9


def test_too_few_values_tell_nothing() -> None:
    def one() -> Iterator[dict[str, Array]]:
        yield {"x": np.ones((1, 16), np.float32)}

    for told in (noise, added_noise):
        assert told(LAYERS, chain(), chain(), one) == {}
        assert told(LAYERS, chain(), chain(), lambda: iter(())) == {}


def test_what_layers_read_may_be_an_output_too() -> None:
    def both() -> Model:
        model = chain()
        (relu, *_) = (node for node in model.ir.graph if node.op_type == "Relu")
        model.ir.graph.outputs.append(relu.outputs[0])
        return model

    quantized, _ = QuantizeWeights(bits=3, exclude=("one", "three")).apply(both())
    found = added_noise(LAYERS, both(), quantized, batches)
    assert found["two"] > 0.01 > found["three"]


def test_the_agreement_of_measures_that_tie() -> None:
    def agreement(*pairs: tuple[float, float]) -> float | None:
        return _spearman([Layer(str(i), *pair) for i, pair in enumerate(pairs)])

    assert agreement((3, 1), (2, 1), (1, 1)) is None
    assert agreement((3, 2), (2, 1), (1, 1)) == pytest.approx(np.sqrt(3) / 2)
