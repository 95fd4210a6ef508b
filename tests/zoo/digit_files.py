"""A convolutional network that is trained on scikit-learn's digits, and the digits as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from sklearn.datasets import load_digits
from torch import nn

from onnxpress import api
from onnxpress.model import Model
from onnxpress.quantization import add_constant
from onnxpress.values import Names


class Net(nn.Module):
    """A residual block, pooling and two linear layers: (n, 1, 8, 8) → (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
        )
        self.deep = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.deep(torch.relu(x + self.body(x))))


@dataclass(frozen=True)
class Digits:
    """``onnx`` is the trained network, ``samples`` an ``.npz`` of 897 images with labels."""

    onnx: Path
    samples: Path
    net: Net


def build(folder: Path) -> Digits:
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    order = torch.randperm(900)
    for _ in range(12):
        for index in order.split(100):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                net(torch.from_numpy(images)[index]), torch.from_numpy(labels)[index]
            )
            loss.backward()
            optimizer.step()
    net.eval()
    converted = api.convert(net, inputs=["image:float32[batch,1,8,8]"], exporter="torchscript")
    path = converted.model.save(folder / "digits.onnx")
    samples = folder / "digits.npz"
    np.savez(samples, image=images[900:], labels=labels[900:])
    return Digits(path, samples, net)


def with_outlier(
    model: Model, layer: int, factor: float, *, fixed: bool = False
) -> tuple[Model, str]:
    """One channel of the ``layer``-th Conv ``factor`` times as large, undone by what reads it.

    The answers stay as they are, since ReLU and scaling commute. ``fixed`` makes the ReLU a Clip
    at a number that nothing reaches, which no pass may scale.
    """
    clone = model.clone()
    convolutions = [node for node in clone.ir.graph if node.op_type == "Conv"]
    node = convolutions[layer]
    reader = next(
        other
        for other in clone.ir.graph
        if other is not node and _reaches(node, other) and other.op_type == "Conv"
    )
    for index, along in ((1, 0), (2, 0)):
        _scale(clone, node, index, along, factor)
    _scale(clone, reader, 1, 1, 1 / factor)
    if fixed:
        _clip(clone, reader)
    return clone, str(node.name)


def _reaches(node: ir.Node, other: ir.Node) -> bool:
    """Whether ``other`` reads ``node`` directly, or through one ReLU."""
    users = [user for user, _ in node.outputs[0].uses()]
    users += [
        user for relu in users if relu.op_type == "Relu" for user, _ in relu.outputs[0].uses()
    ]
    return other in users


def _clip(model: Model, reader: ir.Node) -> None:
    """A Clip in the place of the Relu that ``reader`` reads."""
    value = reader.inputs[0]
    assert value is not None
    relu = value.producer()
    assert relu is not None
    assert relu.op_type == "Relu"
    names = Names(model.ir)
    bounds = [
        add_constant(model.ir.graph, names, f"bound{number:g}", np.array(number, np.float32))
        for number in (0, 1e6)
    ]
    clip = ir.node("Clip", [relu.inputs[0], *bounds], name=relu.name)
    clip.outputs[0].name = names.fresh("clipped")
    relu.prepend([clip])
    value.replace_all_uses_with(clip.outputs[0])
    model.ir.graph.remove(relu, safe=True)


def _scale(model: Model, node: ir.Node, index: int, axis: int, factor: float) -> None:
    value = node.inputs[index]
    assert value is not None
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    where = [slice(None)] * array.ndim
    where[axis] = slice(3, 4)
    array[tuple(where)] *= factor
    value.const_value = ir.tensor(array, name=value.name)
