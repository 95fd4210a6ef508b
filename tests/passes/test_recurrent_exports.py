"""Cells in Python loops, as PyTorch's exporters and tf2onnx write them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from onnxpress.model import Model, load
from onnxpress.recipe import Recipe
from onnxpress.verbs.optimize import DEFAULT_RECIPE
from zoo.disguise import disguise
from zoo.graphs import answers, difference

INPUTS, HIDDEN, STEPS = 5, 6, 3
WITHOUT_GUARD = 1e-4


class Stacked(nn.Module):
    """Two layers of LSTMCell, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.LSTMCell(INPUTS, HIDDEN), nn.LSTMCell(HIDDEN, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = c = x.new_zeros(x.shape[0], HIDDEN)
        g = d = x.new_zeros(x.shape[0], 4)
        found = []
        for t in range(STEPS):
            h, c = self.one(x[:, t], (h, c))
            g, d = self.two(h, (g, d))
            found.append(g)
        return torch.stack(found, 1), c


class BothWays(nn.Module):
    """GRUCell in time's direction and another one against it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.GRUCell(INPUTS, HIDDEN), nn.GRUCell(INPUTS, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = g = x.new_zeros(x.shape[0], HIDDEN)
        there, back = [], []
        for t in range(STEPS):
            h, g = self.one(x[:, t], h), self.two(x[:, STEPS - 1 - t], g)
            there.append(h)
            back.insert(0, g)
        return torch.cat([torch.stack(there, 1), torch.stack(back, 1)], 2)


class Joined(nn.Module):
    """An LSTM of one's own: one linear layer on [x, h], its result in chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(INPUTS + HIDDEN, 4 * HIDDEN)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = c = torch.zeros(x.shape[0], HIDDEN)
        for t in range(STEPS):
            f, i, o, g = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class Learned(nn.Module):
    """A GRU of one's own: z and r of one layer, the new share z, a first state that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(INPUTS + HIDDEN, 2 * HIDDEN)
        self.new = nn.Linear(INPUTS + HIDDEN, HIDDEN)
        self.first = nn.Parameter(torch.randn(1, HIDDEN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first.expand(x.shape[0], -1)
        for t in range(STEPS):
            z, r = torch.sigmoid(self.gates(torch.cat([h, x[:, t]], 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * h + z * n
        return h


CASES = {Stacked: {"LSTM": 2}, BothWays: {"GRU": 2}, Joined: {"LSTM": 1}, Learned: {"GRU": 1}}


def export(network: nn.Module, exporter: str, path: Path, opset: int) -> Model:
    x = torch.ones(2, STEPS, INPUTS)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            free = ({0: torch.export.Dim("batch", min=1, max=64)},)
            program = torch.onnx.export(
                network, (x,), dynamo=True, dynamic_shapes=free, opset_version=opset, verbose=False
            )
            assert program is not None
            program.save(path)
        else:
            torch.onnx.export(
                network, (x,), path, dynamo=False, opset_version=opset, input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
            )  # fmt: skip
    return load(path)


def check(model: Model, wanted: Mapping[str, int]) -> None:
    """The recipe leaves ``wanted`` operators and no gate, at any batch, whatever the names."""
    hidden = Model(ir.from_proto(disguise(ir.to_proto(model.ir), 3)))
    for given in (model, hidden):
        after, _ = Recipe.parse(DEFAULT_RECIPE).apply(given)
        counts = after.op_counts()
        assert {op: counts.get(op, 0) for op in wanted} == wanted, counts
        assert "Sigmoid" not in counts
        for batch in (1, 3):
            x = np.random.default_rng(batch).standard_normal((batch, STEPS, INPUTS))
            feeds = {given.signature.inputs[0].name: x.astype(np.float32)}
            assert difference(answers(given, feeds), answers(after, feeds)) < WITHOUT_GUARD


@pytest.mark.parametrize("network", CASES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("exporter", "opset"), [("torchscript", 17), ("dynamo", 18)])
def test_loops_of_pytorch(
    network: type[nn.Module], exporter: str, opset: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = export(network().eval(), exporter, tmp_path / "net.onnx", opset)
    check(model, CASES[network])


@pytest.mark.slow
def test_a_later_opset(tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(export(Stacked().eval(), "dynamo", tmp_path / "net.onnx", 21), {"LSTM": 2})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "options", "wanted"),
    [
        ("LSTM", {}, {"LSTM": 1}),
        ("GRU", {"reset_after": True}, {"GRU": 1}),
        ("GRU", {"reset_after": False}, {"GRU": 1}),
    ],
)
def test_keras_unrolled(layer: str, options: dict[str, bool], wanted: dict[str, int]) -> None:
    from zoo.tensorflow_files import keras

    k = keras()
    tf = pytest.importorskip("tensorflow")
    tf2onnx = pytest.importorskip("tf2onnx")
    kind = getattr(k.layers, layer)
    made = kind(HIDDEN, unroll=True, bias_initializer="uniform", return_sequences=True, **options)
    net = k.Sequential([k.Input((STEPS, INPUTS)), made, k.layers.Dense(2)])
    spec = [tf.TensorSpec((None, STEPS, INPUTS), tf.float32, name="x")]
    function = tf.function(lambda x: net(x, training=False), input_signature=spec)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=18)
    check(Model(ir.from_proto(proto)), wanted)
