"""What TensorFlow's converter writes of a channels-last CNN, and what is left of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import onnxpress
from onnxpress.recipe import Recipe
from onnxpress.verbs.optimize import DEFAULT_RECIPE, optimize
from zoo.tensorflow_files import keras


def network() -> Any:
    """A block of a MobileNetV3: padded by hand, gated by its own mean, hard activations."""
    k = keras()
    k.utils.set_random_seed(0)
    n = k.layers
    image = k.Input((32, 32, 3), name="image")
    x = n.Rescaling(1 / 127.5, offset=-1)(image)
    x = n.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = n.Activation("hard_silu")(n.BatchNormalization()(x))
    y = n.DepthwiseConv2D(3, strides=2, use_bias=False)(n.ZeroPadding2D(((0, 1), (0, 1)))(x))
    y = n.ReLU()(n.BatchNormalization()(y))
    gate = n.Conv2D(4, 1, activation="relu")(n.GlobalAveragePooling2D(keepdims=True)(y))
    gate = n.Activation("hard_sigmoid")(n.Conv2D(8, 1)(gate))
    y = n.Multiply()([y, gate])
    y = n.Add()([y, n.Conv2D(8, 1, strides=2)(x)])
    return k.Model(image, n.Dense(5, name="scores")(n.GlobalAveragePooling2D()(y)))


@pytest.mark.slow
def test_one_transposition_is_left() -> None:
    model = onnxpress.convert(network(), verify=False).model
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    feeds = {model.signature.inputs[0].name: images}
    result = optimize(model, lambda: [feeds], Recipe.parse(DEFAULT_RECIPE))
    ops = result.model.op_counts()
    assert not any(outcome.reverted for outcome in result.passes)
    assert result.verified.ok
    assert ops == {
        "Add": 2, "Transpose": 1, "Conv": 5, "HardSwish": 1, "Relu": 2, "ReduceMean": 2,
        "HardSigmoid": 1, "Mul": 1, "MatMul": 1,
    }  # fmt: skip
