"""A model of the library as a plain module: named tensors in, named tensors out."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from onnxpress.errors import SourceError

LEFT_OUT = ("loss", "loss_dict", "past_key_values")
"""Of the library's outputs: what is for training, and caches."""


class Head(torch.nn.Module):
    """Calls ``model`` with the inputs of these names and gives its tensors by output name.

    ``inner_class`` is the model's class in messages.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        inputs: tuple[str, ...],
        call: Callable[[dict[str, torch.Tensor]], Mapping[str, object]],
    ) -> None:
        super().__init__()
        self.model = model
        self.inner_class = type(model).__name__

        def forward(*args: torch.Tensor, **kwargs: torch.Tensor) -> dict[str, torch.Tensor]:
            given = {**dict(zip(inputs, args, strict=False)), **kwargs}
            return tensors(call(given))

        # Both exporters read the inputs' names off the signature.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in inputs]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect documents it
        self.forward = forward


def tensors(outputs: object) -> dict[str, torch.Tensor]:
    """The tensors among a ModelOutput's fields; tuples of hidden states and caches are left out."""
    if not isinstance(outputs, Mapping):
        raise SourceError(
            f"the model returned {type(outputs).__name__}",
            "a ModelOutput",
            "set return_dict=True in its config",
        )
    found = {
        name: value
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor) and name not in LEFT_OUT
    }
    if not found:
        raise SourceError(f"the model returned no tensors but {', '.join(outputs)}", "tensors")
    return found


@contextlib.contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention from plain matrix products: where fused attention cannot be exported."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
