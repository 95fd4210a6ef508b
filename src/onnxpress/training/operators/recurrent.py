"""LSTM and GRU, whose gates ONNX keeps in another order than PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from onnxpress.training.attributes import Attributes, Unsupported

_LSTM, _GRU = (0, 2, 3, 1), (1, 0, 2)
"""ONNX has i, o, f, c and z, r, h; PyTorch has i, f, c, o and r, z, h."""


def _lstm(
    given: Attributes, x: Tensor, weight: Tensor, recurrent: Tensor, *more: Tensor | None
) -> tuple[Tensor, ...]:
    """Sequences (length, batch, features) → (length, directions, batch, hidden) and the states."""
    bias, lengths, hidden, cell, peephole = (list(more) + [None] * 5)[:5]
    directions = weight.shape[0]
    _check(given, lengths, " ".join(["Sigmoid Tanh Tanh"] * directions))
    given.only(input_forget=0)
    if peephole is not None:
        raise Unsupported("peepholes")
    zeros = _zeros(x, recurrent)
    states = [zeros if hidden is None else hidden, zeros if cell is None else cell]
    parameters = _parameters(weight, recurrent, bias, _LSTM)
    result, *last = torch.lstm(
        x, states, parameters, bias is not None, 1, 0.0, False, directions == 2, False
    )
    return (_by_direction(result, directions), *last)


def _gru(
    given: Attributes,
    x: Tensor,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """As ``LSTM``, of the kind that PyTorch has: the gate is applied after the product."""
    directions = weight.shape[0]
    _check(given, lengths, " ".join(["Sigmoid Tanh"] * directions))
    if not given.integer("linear_before_reset", 0):
        raise Unsupported("linear_before_reset=0")
    state = _zeros(x, recurrent) if hidden is None else hidden
    parameters = _parameters(weight, recurrent, bias, _GRU)
    result, last = torch.gru(
        x, state, parameters, bias is not None, 1, 0.0, False, directions == 2, False
    )
    return _by_direction(result, directions), last


def _check(given: Attributes, lengths: Tensor | None, activations: str) -> None:
    given.only(layout=0, activations=activations)
    if given.text("direction", "forward") == "reverse":
        raise Unsupported("direction=reverse")
    if "clip" in given.values:
        raise Unsupported("clip")
    if lengths is not None:
        raise Unsupported("sequence_lens")


def _zeros(x: Tensor, recurrent: Tensor) -> Tensor:
    return x.new_zeros(recurrent.shape[0], x.shape[1], recurrent.shape[2])


def _parameters(
    weight: Tensor, recurrent: Tensor, bias: Tensor | None, order: Sequence[int]
) -> list[Tensor]:
    """For each direction both weights and, where there are, both biases."""
    parameters = []
    for direction in range(weight.shape[0]):
        parts = [weight[direction], recurrent[direction]]
        parts += [] if bias is None else list(bias[direction].chunk(2))
        for part in parts:
            gates = part.chunk(len(order))
            parameters.append(torch.cat([gates[index] for index in order]))
    return parameters


def _by_direction(result: Tensor, directions: int) -> Tensor:
    length, batch, features = result.shape
    return result.reshape(length, batch, directions, features // directions).transpose(1, 2)


RECURRENT: Mapping[str, Callable[..., tuple[Tensor, ...]]] = {"GRU": _gru, "LSTM": _lstm}
