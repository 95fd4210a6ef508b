"""The rounding of training is QuantizeLinear's own, and its gradients are what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxpress.calibrator import Range
from onnxpress.quantization import activation_grid, quantize_weight
from onnxpress.training import grids
from onnxpress.training.rounding import fake_quantized
from zoo.graphs import answers, parse

PAIR = """(float[n] x) => (float[n] y) {
    q = QuantizeLinear(x, scale, zero)
    y = DequantizeLinear(q, scale, zero)
}"""


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("scale", [0.1, 0.25, 1 / 3, 7e-3])
def test_equal_to_onnx_runtime_bit_by_bit(dtype: str, scale: float) -> None:
    """Ties, values between two multiples, and such as saturate."""
    step = np.float32(scale)
    generator = np.random.default_rng(0)
    ties = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * step
    x = np.concatenate([ties, generator.normal(0, 60 * scale, 20_000)]).astype(np.float32)
    zero = np.array(100 if dtype == "uint8" else 0, dtype)
    limits = np.iinfo(dtype)
    expected = answers(parse(PAIR, scale=step, zero=zero), {"x": x})[0]
    found = fake_quantized(
        torch.from_numpy(x), torch.tensor(step), torch.tensor(float(zero)), limits.min, limits.max
    )
    np.testing.assert_array_equal(found.numpy(), expected)


def test_gradients() -> None:
    """Straight through inside, nothing where it saturates; the scale's as in LSQ."""
    x = torch.tensor([-30.0, 0.26, 0.76, 30.0], requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    fake_quantized(x, scale, torch.tensor(0.0), -7, 7).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0, 0]
    assert scale.grad is not None
    share = (4 * 7) ** -0.5
    assert float(scale.grad) == pytest.approx((-7 + (3 - 2.6) + 7 + 7) * share, rel=1e-5)


def test_the_scale_follows_what_it_cuts_off() -> None:
    grid = grids.activation(activation_grid(Range(0, 1), "uint8"))
    grid(torch.full((8,), 3.0)).sum().backward()
    assert grid.growth.grad is not None
    assert grid.growth.grad > 0, "larger scales reach the values that are cut off"


def test_a_clip_bounds_the_grid_behind_it() -> None:
    """Else engines would keep the Clip, and with it the convolution in float."""
    grid = grids.activation(activation_grid(Range(0, 5.9), "uint8"), 0.0, 6.0)
    with torch.no_grad():
        grid.growth.fill_(1)
    scale = grid.scale().detach().numpy()
    assert scale * np.float32(255) <= 6
    assert scale * np.float32(255) > 5.99


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_first_scales_have_less_error_than_those_of_the_whole_range(bits: int) -> None:
    values = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    whole = quantize_weight(values, 0, bits)
    grid = grids.weight(values, whole.scale, 0, bits)
    with torch.no_grad():
        mine = grid(torch.from_numpy(values)).numpy()
    theirs = whole.values * whole.scale[:, None]
    assert grid.growth.shape == (6,)
    assert np.abs(grid.integers(torch.from_numpy(values))).max() <= 2 ** (bits - 1) - 1
    errors = [np.square(values - each).sum(1) for each in (mine, theirs)]
    assert (errors[0] <= errors[1] * 1.0001).all()
    if bits < 4:
        assert errors[0].sum() < 0.8 * errors[1].sum()
