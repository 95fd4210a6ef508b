"""What is known of a model's values once its free dimensions have sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.shapes import Shapes

Given = Mapping[str, Sequence[int | str]]
"""An input → its shape, or a free dimension → its one size."""


def sized(model: Model, given: Given | None = None, free: int = 1) -> tuple[Shapes, dict[str, int]]:
    """Shapes with free dimensions as numbers: those of ``given``, ``free`` for all others.

    Also which sizes these are: name → size, ``x[1]`` where a dimension has no name. Raises
    ``InputError`` for a name that the model does not have and for a size that does not fit.
    """
    inputs = [value for value in model.ir.graph.inputs if value.name]
    wanted = _wanted(inputs, given or {})
    sizes: dict[str, int] = {}
    known: dict[ir.Value, tuple[int, ...]] = {}
    for value in inputs:
        told = (given or {}).get(str(value.name))
        if value.shape is None and told is None:
            continue
        dims: list[int] = []
        for axis, dim in enumerate(told or () if value.shape is None else value.shape):
            if isinstance(dim, int):
                dims.append(dim)
                continue
            name = (None if isinstance(dim, str) else dim.value) or f"{value.name}[{axis}]"
            sizes[name] = wanted.get(name, free)
            dims.append(sizes[name])
        known[value] = tuple(dims)
    return Shapes(model.ir, sizes, known), sizes


def _wanted(inputs: Sequence[ir.Value], given: Given) -> dict[str, int]:
    """Name of a free dimension → the size that ``given`` asks for."""
    shapes = {str(value.name): value.shape for value in inputs}
    free = {
        dim.value
        for shape in shapes.values()
        for dim in shape or ()
        if not isinstance(dim, int) and dim.value
    }
    wanted: dict[str, int] = {}
    for name, dims in given.items():
        told = f"--shape {name}={','.join(map(str, dims))}"
        numbers = [dim for dim in dims if isinstance(dim, int) and dim >= 0]
        if len(numbers) != len(dims):
            raise InputError(told, "numbers")
        if name in shapes:
            _take(told, name, numbers, shapes[name], wanted)
        elif name in free and len(numbers) == 1:
            _set(told, name, numbers[0], wanted)
        else:
            known = ", ".join([*shapes, *sorted(free)]) or "a model with inputs"
            expected = f"one size for '{name}'" if name in free else f"one of {known}"
            raise InputError(told, expected)
    return wanted


def _take(
    told: str, name: str, dims: Sequence[int], shape: ir.Shape | None, wanted: dict[str, int]
) -> None:
    """Note what the shape of one input says of its free dimensions."""
    if shape is None:
        return
    if len(dims) != len(shape):
        raise InputError(told, f"{len(shape)} sizes, for {shape}")
    for axis, (size, dim) in enumerate(zip(dims, shape, strict=True)):
        if isinstance(dim, int):
            if size != dim:
                raise InputError(told, f"sizes that fit {shape}")
        else:
            _set(told, dim.value or f"{name}[{axis}]", size, wanted)


def _set(told: str, name: str, size: int, wanted: dict[str, int]) -> None:
    if wanted.setdefault(name, size) != size:
        raise InputError(told, f"one size for '{name}': another --shape says {wanted[name]}")
