"""What loaders yield: the inputs of a model, alone or with what they should become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from onnxpress.errors import InputError, SamplesError
from onnxpress.signature import Feeds


def inputs_of(item: object, names: Sequence[str]) -> dict[str, Tensor]:
    """The inputs in one item of a loader, by name.

    A model of one input takes a tensor; one of several takes a tuple in their order or a mapping
    of their names. ``(inputs, targets)`` is taken as well.
    """
    if isinstance(item, Mapping):
        missing = [name for name in names if name not in item]
        if missing:
            raise _strange(item, names)
        return {name: _tensor(item[name]) for name in names}
    if isinstance(item, tuple | list):
        if len(item) == 2 and (len(names) == 1 or isinstance(item[0], tuple | list | Mapping)):
            return inputs_of(item[0], names)
        if len(item) != len(names):
            raise _strange(item, names)
        return {name: _tensor(value) for name, value in zip(names, item, strict=True)}
    if len(names) != 1:
        raise _strange(item, names)
    return {names[0]: _tensor(item)}


def pair_of(item: object, names: Sequence[str]) -> tuple[dict[str, Tensor], object]:
    """``(inputs, targets)``. Raises ``SamplesError`` for an item that is no pair."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise SamplesError(f"the loader yields {_shown(item)}", "pairs (inputs, targets)")
    return inputs_of(item[0], names), item[1]


def moved(value: object, device: torch.device) -> object:
    """``value``, any nesting of tensors, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(each, device) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(moved(each, device) for each in value)
    return value


def feeds_of(item: object, names: Sequence[str]) -> Feeds:
    """The inputs in ``item`` as arrays."""
    given = inputs_of(item, names)
    for name, tensor in given.items():
        if tensor.dtype == torch.bfloat16:  # which NumPy has not
            raise SamplesError(f"input '{name}' got bfloat16", "float32", "call .float() on it")
    return {name: tensor.detach().cpu().numpy() for name, tensor in given.items()}


def _tensor(value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    raise SamplesError(f"a batch holds a {type(value).__name__}", "tensors or arrays, batch first")


def _strange(item: object, names: Sequence[str]) -> InputError:
    wanted = "a tensor" if len(names) == 1 else f"a tuple or a mapping of {', '.join(names)}"
    return SamplesError(f"a batch is {_shown(item)}", wanted)


def _shown(item: object) -> str:
    if isinstance(item, Mapping):
        return f"a mapping of {', '.join(map(str, item)) or 'nothing'}"
    if isinstance(item, tuple | list):
        return f"a {type(item).__name__} of {len(item)}"
    return f"a {type(item).__name__}"
