"""An ONNX graph as a PyTorch module whose weights and scales can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onnxpress.errors import InputError, SourceError, first_line
from onnxpress.training.attributes import Unsupported
from onnxpress.training.grids import TrainedGrid
from onnxpress.training.steps import Step


class Network(nn.Module):
    """Inputs by position or by name → one tensor, or a tuple in the order of the graph's outputs.

    ``weights`` has the parameters by the names that the graph gives them, which are those of the
    user's module wherever the exporter keeps them; ``grids`` the scales. Nothing in it depends on
    ``train()`` and ``eval()``: what is trained is what is exported.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        steps: Sequence[Step],
        trained: Mapping[str, np.ndarray],
        fixed: Mapping[str, np.ndarray],
        grids: Mapping[str, TrainedGrid],
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.steps, self.trained = tuple(steps), tuple(trained)
        self.weights, self.grids = nn.Module(), nn.ModuleDict(grids)
        self._homes: dict[str, tuple[str, ...]] = {}
        for name, array in trained.items():
            self._place(name, nn.Parameter(_tensor(array)))
        for name, array in fixed.items():
            self._place(name, _tensor(array))
        self._last = _last_uses(self.steps, self.outputs)
        self.register_load_state_dict_pre_hook(_refuse_other_bounds)  # type: ignore[no-untyped-call]  # as torch declares it

    def weight(self, name: str) -> Tensor:
        """The trained or fixed tensor that the graph calls ``name``."""
        *path, leaf = self._homes[name]
        found = getattr(self.weights.get_submodule(".".join(path)), leaf)
        assert isinstance(found, Tensor)
        return found

    def forward(self, *given: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        values: dict[str, Tensor] = {**dict(zip(self.inputs, given, strict=False)), **named}
        if len(given) > len(self.inputs) or values.keys() != set(self.inputs):
            told = [*(f"number {i + 1}" for i in range(len(given))), *named]
            raise InputError(f"inputs {', '.join(told) or 'none'}", ", ".join(self.inputs))
        for step, gone in zip(self.steps, self._last, strict=True):
            inputs = [self._value(name, values) for name in step.inputs]
            try:
                made = step.run(self, inputs)
            except Unsupported as error:
                raise unsupported(step, error) from error
            values.update(zip(step.outputs, made, strict=False))
            for name in gone:
                values.pop(name, None)
        results = tuple(self._output(name, values) for name in self.outputs)
        return results[0] if len(results) == 1 else results

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        return values[name] if name in values else self.weight(name)

    def _output(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        found = self._value(name, values)
        assert found is not None
        return found

    def _place(self, name: str, tensor: Tensor) -> None:
        """Below ``weights``, in a tree that the dots of ``name`` tell."""
        *path, leaf = [part or "_" for part in name.split(".")]
        room = self.weights
        for index, part in enumerate(path):
            while hasattr(room, part) and type(getattr(room, part)) is not nn.Module:
                part += "_"  # noqa: PLW2901  # the first name that is free
            if not hasattr(room, part):
                room.add_module(part, nn.Module())
            room, path[index] = room.get_submodule(part), part
        while hasattr(room, leaf):
            leaf += "_"
        if isinstance(tensor, nn.Parameter):
            room.register_parameter(leaf, tensor)
        else:
            room.register_buffer(leaf, tensor)
        self._homes[name] = (*path, leaf)


def unsupported(step: Step, error: Unsupported) -> SourceError:
    """The refusal that names the operator."""
    return SourceError(
        f"the model computes {step.outputs[0]} with {getattr(step, 'op', '')} and "
        f"{first_line(error)}, which cannot be trained here",
        "operators that onnxpress has gradients of",
        "quantise it after training: onnxpress quantize",
    )


def _refuse_other_bounds(
    network: Network, state: Mapping[str, Tensor], prefix: str, *_: object
) -> None:
    """Raise ``InputError`` where ``state`` is of other bits, before any of it is loaded."""
    for key, grid in network.grids.items():
        assert isinstance(grid, TrainedGrid)
        found = state.get(f"{prefix}grids.{key}.bounds")
        if found is not None and found.tolist() != [grid.low, grid.high]:
            low, high = found.tolist()
            raise InputError(
                f"in the state '{key}' has the integers {low} to {high}",
                f"{grid.low} to {grid.high}, as in this module",
                "give quantize_aware the weight_bits and activations that the state was made with",
            )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def _last_uses(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """For each step the values that nothing reads after it."""
    seen, last = set(outputs), []
    for step in reversed(steps):
        gone = {name for name in (*step.inputs, *step.outputs) if name} - seen
        seen |= gone
        last.append(tuple(gone))
    return tuple(reversed(last))
