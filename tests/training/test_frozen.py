"""What is frozen stays bit for bit, whatever exporters and passes made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import onnxpress
from onnxpress.model import Model
from onnxpress.training.aware import Aware
from onnxpress.training.frozen import frozen
from onnxpress.training.steps import QuantizeBias, QuantizeWeight
from zoo.networks import randomise


class Twins(nn.Module):
    """Two layers that begin as copies, as those of nn.TransformerEncoder do, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        self.body[2].load_state_dict(self.body[0].state_dict())
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Folded(nn.Module):
    """A convolution without a bias: that of the BatchNorm behind it becomes one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3)
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)).mean((2, 3)))


BODIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "equal layers": (Twins, (32, 5, 6), 2),
    "encoder": (Encoder, (32, 5, 8), 8),
    "folded BatchNorm": (lambda: randomise(Folded()), (32, 3, 8, 8), 2),
}
"""Makes the network; the shape of its input; how many matrices the body quantises."""


def trained(aware: Aware, x: Tensor) -> None:
    """A few steps of two optimisers: one with momentum, one with weight decay."""
    parameters = list(aware.module.parameters())
    for optimizer in (torch.optim.Adam(parameters, 1e-2), torch.optim.AdamW(parameters, 1e-2)):
        for _ in range(3):
            optimizer.zero_grad()
            aware.module(x).square().sum().backward()
            optimizer.step()


def exported(aware: Aware) -> dict[str, np.ndarray]:
    constants = aware.model().ir.graph.initializers
    return {name: v.const_value.numpy() for name, v in constants.items() if v.const_value}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "encoder" else ()) for n in BODIES]
)
def test_a_frozen_body_stays_and_its_head_is_trained(name: str) -> None:
    torch.manual_seed(0)
    make, shape, matrices = BODIES[name]
    module, x = make().eval(), torch.randn(*shape)
    module.body.requires_grad_(False)
    aware = onnxpress.quantize_aware(module, samples=[x], weight_bits=4)
    assert aware.warnings == ()
    heads = [p.detach().clone() for p in aware.module.weights.parameters()]
    assert sorted(w.numel() for w in heads) == sorted(p.numel() for p in module.head.parameters())
    fixed = {name: tensor.clone() for name, tensor in aware.module.weights.named_buffers()}
    before = exported(aware)
    trained(aware, x)
    for known, tensor in aware.module.weights.named_buffers():
        assert torch.equal(tensor, fixed[known]), known
    for old, now in zip(heads, aware.module.weights.parameters(), strict=True):
        assert not torch.equal(old, now)

    after, kept = exported(aware), 0
    for step in aware.module.steps:
        if isinstance(step, QuantizeWeight):
            alike = [np.array_equal(before[k], after[k]) for k in (step.values, step.scale)]
            assert alike == [step.weight not in aware.module.trained] * 2, step
            kept += all(alike)
        elif isinstance(step, QuantizeBias) and step.bias not in aware.module.trained:
            bias = aware.module.weight(step.bias).reshape(-1).numpy()
            apart = np.abs(after[step.values] * after[step.scale] - bias)
            assert (apart <= 0.51 * after[step.scale]).all(), step
    assert kept == matrices


def test_where_all_is_frozen_the_scales_of_activations_are_trained() -> None:
    module = Twins().requires_grad_(False)
    aware = onnxpress.quantize_aware(module, samples=[torch.randn(32, 6)])
    assert aware.module.trained == ()
    left = [name for name, p in aware.module.named_parameters() if p.requires_grad]
    assert len(left) == 3
    assert all(name.startswith("grids.") for name in left)


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_is_folded_of_frozen_and_trained_ones_is_trained_and_told(part: int) -> None:
    """A convolution's weights times the factors of the BatchNorm behind it."""
    module = randomise(Folded())
    module.body[part].requires_grad_(False)
    aware = onnxpress.quantize_aware(module, samples=[torch.randn(32, 3, 8, 8)])
    [told] = aware.warnings
    assert told == "frozen parameters are folded into what is trained: body.0.weight"
    assert aware.to_dict()["warnings"] == [told]
    assert "body.0.weight" in aware.module.trained
    assert ("body.0.weight_bias" in aware.module.trained) == (part == 0)


def test_what_is_not_found_again_is_told_and_not_taken_for_frozen() -> None:
    def model(*names: str) -> Model:
        constants = [ir.tensor(np.full(2, 3, np.float32), name=name) for name in names]
        values = [ir.Value(name=str(t.name), const_value=t) for t in constants]
        return Model(ir.Model(ir.Graph([], [], nodes=[], initializers=values), ir_version=10))

    found = frozen(
        Twins().body[:3].append(nn.Linear(2, 2).requires_grad_(False)),
        model("a", "b"),
        lambda: model("b"),
    )
    assert found.names == {"b"}
    assert found.mixed == {"a"}


class Table(nn.Module):
    """A buffer that is a weight, and comes out transposed."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(8, 6))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x @ self.table.T))


def test_a_buffer_stays() -> None:
    aware = onnxpress.quantize_aware(Table(), samples=[torch.randn(32, 5, 6)])
    assert sorted(aware.module.weight(name).numel() for name in aware.module.trained) == [4, 32]
