"""What goes into a model and what comes out: names, element types and shapes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpress.errors import InputError, SamplesError

Feeds = dict[str, np.ndarray]
"""Tensor name → array. Whoever made the arrays owns them."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    ``dtype`` is a NumPy name (``float32``, ``bfloat16``, ``object`` for strings). A dimension is
    an int, or a str where it is free: the symbol's name, ``"?"`` where it has none. ``shape`` is
    None where not even the rank is known.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    def to_dict(self) -> dict[str, object]:
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "dtype": self.dtype, "shape": shape}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> TensorSpec:
        """What ``to_dict`` gave. Raises ``KeyError`` or ``TypeError`` for anything else."""
        name, dtype, shape = str(data["name"]), str(data["dtype"]), data["shape"]
        if shape is None:
            return cls(name, dtype, None)
        if not isinstance(shape, list | tuple) or not all(isinstance(d, int | str) for d in shape):
            raise TypeError(f"the shape of {name} is {shape!r}")
        return cls(name, dtype, tuple(shape))

    @classmethod
    def parse(cls, text: str) -> TensorSpec:
        """``NAME:DTYPE[dims]``; a dimension is a number or a name. Raises ``InputError``."""
        found = re.fullmatch(r"([^:\[\]]+):\s*(\w+)(?:\[(.*)\])?", text.strip())
        if not found:
            raise InputError(
                f"--input {text}", "NAME:DTYPE[dims], such as x:float32[batch,3,224,224]"
            )
        dtype = "object" if found[2] == "string" else found[2]
        return cls(found[1], dtype, parse_dims(found[3] or ""))

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension is free."""
        return bool(self.shape) and isinstance(self.shape[0], str)  # type: ignore[index]

    def __str__(self) -> str:
        shape = "…" if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.name}: {'string' if self.dtype == 'object' else self.dtype}[{shape}]"


def parse_dims(text: str) -> tuple[int | str, ...]:
    """Dimensions separated by commas: numbers from 1 on, or names of free ones.

    Raises ``InputError`` for anything else.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    for part in parts:
        if not (part.isidentifier() or (part.isdecimal() and int(part) > 0)):
            raise InputError(f"dimension '{part}' of [{text}]", "a number from 1 on, or a name")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_dict(self) -> dict[str, object]:
        return {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[Mapping[str, object]]]) -> Signature:
        return cls(
            tuple(TensorSpec.from_dict(spec) for spec in data["inputs"]),
            tuple(TensorSpec.from_dict(spec) for spec in data["outputs"]),
        )

    @property
    def dynamic_batch(self) -> bool:
        """Whether every input's first dimension is free, so that rows may be stacked."""
        return bool(self.inputs) and all(spec.dynamic_batch for spec in self.inputs)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raise ``SamplesError`` where ``feeds`` lack an input or one has a wrong type or shape."""
        wanted = {spec.name for spec in self.inputs}
        for name in feeds:
            if name not in wanted:
                raise SamplesError(
                    f"the samples feed '{name}'", f"the inputs {', '.join(sorted(wanted))}"
                )
        sizes: dict[str, tuple[int, str]] = {}
        for spec in self.inputs:
            if spec.name not in feeds:
                raise SamplesError(f"the samples lack input '{spec.name}'", str(spec))
            _check_array(spec, np.asarray(feeds[spec.name]), sizes)


def _check_array(spec: TensorSpec, array: np.ndarray, sizes: dict[str, tuple[int, str]]) -> None:
    """Called before every run: what is told of a misfit is made only where there is one."""
    if _name(array.dtype) != spec.dtype and not (
        spec.dtype == "object" and array.dtype.kind in "UO"
    ):
        raise SamplesError(_found(spec, array), str(spec), f"convert it to {spec.dtype}")
    if spec.shape is None:
        return
    if len(spec.shape) != array.ndim:
        raise SamplesError(_found(spec, array), str(spec))
    for want, have in zip(spec.shape, array.shape, strict=True):
        if isinstance(want, int):
            if want != have:
                raise SamplesError(_found(spec, array), str(spec))
        elif want != "?":
            first, where = sizes.setdefault(want, (have, spec.name))
            if first != have:
                raise SamplesError(
                    f"dimension '{want}' is {first} in input '{where}' and {have} in '{spec.name}'",
                    "one size",
                )


@functools.cache
def _name(dtype: np.dtype) -> str:
    """NumPy spells a type's name anew each time that it is asked."""
    return dtype.name


def _found(spec: TensorSpec, array: np.ndarray) -> str:
    return f"input '{spec.name}' got {array.dtype}{list(array.shape)}"
