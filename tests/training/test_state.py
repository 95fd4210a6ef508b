"""A state that is loaded into another module is what that module then exports."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import onnxpress
from onnxpress.errors import InputError
from onnxpress.training.aware import Aware
from zoo.graphs import answers


class Net(nn.Module):
    """Its activations lie on both sides of zero; one has bounds of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        y = self.first(image)
        y = y + self.second(nn.functional.silu(y))
        y = nn.functional.hardtanh(self.third(nn.functional.silu(y)), -0.5, 1.0)
        return self.head(y.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def aware_of(
    net: nn.Module, seed: int, much: float = 1, activations: str = "uint8", bits: int = 7
) -> Aware:
    generator = torch.Generator().manual_seed(seed)
    samples = [torch.randn(32, 3, 8, 8, generator=generator) * much + much - 1 for _ in range(2)]
    return onnxpress.quantize_aware(net, samples=samples, activations=activations, weight_bits=bits)


def zeros(aware: Aware) -> list[int]:
    return [int(grid.zero) for grid in aware.module.grids.values()]


@pytest.mark.parametrize(
    ("much", "activations"),
    [
        pytest.param(1, "uint8", marks=pytest.mark.slow),
        (3, "uint8"),
        pytest.param(2, "uint16", marks=pytest.mark.slow),
    ],
)
def test_what_is_exported_is_what_the_module_computes(
    much: float, activations: str, net: nn.Module, tmp_path: Path
) -> None:
    """Both of other samples: shuffled, or of another range."""
    one = aware_of(net, 1, activations=activations)
    two = aware_of(net, 2, much, activations)
    assert zeros(one) != zeros(two)
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    one.fit([(x, x.new_zeros(64, 4))] * 5, nn.functional.mse_loss, epochs=1, lr=1e-2)
    torch.save(one.module.state_dict(), tmp_path / "state.pt")
    two.module.load_state_dict(torch.load(tmp_path / "state.pt"))
    with torch.no_grad():
        expected = one.module(x)
        for module in (
            two.module,
            copy.deepcopy(two.module),
            pickle.loads(pickle.dumps(two.module)),
        ):
            assert torch.equal(module(x), expected)
    found = torch.from_numpy(answers(two.model(), {"image": x.numpy()})[0])
    close = torch.isclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert close.float().mean() > 0.97
    [a, b] = (
        {k: v.const_value for k, v in m.model().ir.graph.initializers.items()} for m in (one, two)
    )
    assert all((a[k].numpy() == b[k].numpy()).all() for k in a)


def test_a_state_of_other_bits_is_refused_whole(net: nn.Module) -> None:
    state = aware_of(net, 1, bits=4).module.state_dict()
    other = aware_of(net, 2)
    before = {name: tensor.clone() for name, tensor in other.module.state_dict().items()}
    told = r"has the integers -7 to 7; expected -63 to 63.*weight_bits and activations"
    with pytest.raises(InputError, match=told) as caught:
        other.module.load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], now) for name, now in other.module.state_dict().items())
    whole = nn.Sequential(aware_of(net, 1, activations="int8").module)  # a part of another module
    with pytest.raises(InputError, match="the integers 0 to 255; expected -128 to 127"):
        whole.load_state_dict({f"0.{name}": tensor for name, tensor in before.items()})
