"""Sub-pixel networks of any depth, width, size and scale convert, proven equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxpress import api
from onnxpress.signature import TensorSpec
from zoo import examples


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_drawn_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, width, depth = (int(n) for n in rng.integers((2, 3, 1), (5, 17, 5)))
    height, wide = (int(n) for n in rng.integers(9, 40, 2))
    torch.manual_seed(seed)
    network = examples.load("super_resolution").SubPixel(scale, width, depth)
    converted = api.convert(
        network, inputs=[TensorSpec("x", "float32", ("batch", 3, height, wide))]
    )
    assert converted.verified is not None
    assert converted.verified.ok
    [output] = converted.model.signature.outputs
    assert output.name == "image"
    assert output.shape == ("batch", 3, scale * height, scale * wide)
