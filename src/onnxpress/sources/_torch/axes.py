"""Which dimensions of a module's inputs are free, and an example of the sizes that are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from onnxpress.errors import InputError
from onnxpress.sources._torch.example import Example

Axes = Mapping[str, Mapping[int, str]]
"""Input → axis → name of its free dimension."""

Shapes = Mapping[str, tuple[int | str, ...]]
"""Input → its dimensions: numbers, or names of free ones."""


def default_shapes(example: Example, given: Example, known: Axes) -> Shapes:
    """The free axes that the example tells; where it tells none, the batch and the known ones."""
    rows = _batched(example, given)
    shapes = {}
    for name, tensor in example.tensors.items():
        batch = {0: "batch"} if name in rows else {}
        free = example.free.get(name, {**batch, **known.get(name, {})})
        shapes[name] = tuple(free.get(axis, size) for axis, size in enumerate(tensor.shape))
    return shapes


def asked_shapes(shapes: Shapes, asked: Shapes, example: Example) -> Shapes:
    """``shapes`` with those of ``--shape``; other inputs follow where they share a dimension.

    Raises ``InputError`` for an input that there is not, and another number of dimensions.
    """
    became: dict[str, int | str] = {}
    for name, wanted in asked.items():
        if name not in shapes:
            raise InputError(f"--shape names input '{name}'", f"one of {', '.join(shapes)}")
        if len(wanted) != len(shapes[name]):
            raise InputError(f"--shape {name} has {len(wanted)} dimensions", str(example))
        for before, after in zip(shapes[name], wanted, strict=True):
            if isinstance(before, str):
                became.setdefault(before, after)
    follow = {
        name: tuple(became.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)
        for name, shape in shapes.items()
    }
    return {**follow, **asked}


def free_axes(shapes: Shapes) -> Axes:
    """The named dimensions; inputs without any are left out."""
    found = {
        name: {axis: dim for axis, dim in enumerate(shape) if isinstance(dim, str)}
        for name, shape in shapes.items()
    }
    return {name: axes for name, axes in found.items() if axes}


def sized(example: Example, shapes: Shapes, module: torch.nn.Module) -> Example:
    """The example in the numbers of ``shapes``: its own values, repeated or cut.

    Raises ``InputError`` where the module takes the example, but not these sizes.
    """
    tensors, changed = {}, []
    for name, tensor in example.tensors.items():
        pairs = zip(shapes[name], tensor.shape, strict=True)
        sizes = [dim if isinstance(dim, int) else size for dim, size in pairs]
        tensors[name] = _resized(tensor, sizes)
        if sizes != list(tensor.shape):
            changed.append(f"{name}{sizes} (the example's is {list(tensor.shape)})")
    made = example.with_tensors(tensors)
    if changed and not made.runs(module):
        model = getattr(module, "inner_class", type(module).__name__)
        raise InputError(
            f"{model} does not run on the sizes of --shape: {', '.join(changed)}",
            "sizes that it takes",
        )
    return made


def _resized(tensor: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Of rows the last ones are kept: in text examples the first is the one without padding."""
    if list(tensor.shape) == list(sizes):
        return tensor
    repeats = [-(-want // max(have, 1)) for want, have in zip(sizes, tensor.shape, strict=True)]
    rows, *others = sizes
    return tensor.repeat(repeats)[(slice(-rows, None), *map(slice, others))].clone()


def _batched(example: Example, given: Example) -> set[str]:
    """The inputs whose first axis is the batch: those that took a second row with the others.

    Where none did, those of the most frequent size, since one size is one batch.
    """
    firsts = {name: tensor.shape[0] for name, tensor in example.tensors.items() if tensor.dim()}
    doubled = {name for name, size in firsts.items() if size != given.tensors[name].shape[0]}
    if doubled or not firsts:
        return doubled
    several = [size for size in firsts.values() if size != 1] or [1]
    batch = Counter(several).most_common(1)[0][0]
    return {name for name, size in firsts.items() if size == batch}
