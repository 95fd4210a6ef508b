"""A model as a function of named tensors: what sessions run and exports trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxpress.errors import InputError, SourceError
from onnxpress.signature import Signature, TensorSpec
from onnxpress.source import ExportOptions
from onnxpress.sources._tensorflow.framework import tensorflow, told

AXES = {
    2: ("batch", "length"),
    3: ("batch", "length", "features"),
    4: ("batch", "height", "width", "channels"),
    5: ("batch", "depth", "height", "width", "channels"),
}
"""What the free axes of a tensor are called, by its rank."""


@dataclass(frozen=True)
class Program:
    """``call`` takes tensors by input name and returns tensors by output name.

    ``name`` is what errors call the model. ``integers`` holds the number of values that an
    integer input may take, where the model tells. ``weights`` are its variables.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, Any]], dict[str, Any]]
    integers: Mapping[str, int] = field(default_factory=dict)
    weights: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Traced:
    """A program as a ``tf.function`` with its one concrete function, and their signature."""

    function: Any
    concrete: Any
    signature: Signature


def trace(program: Program, inputs: tuple[TensorSpec, ...]) -> Traced:
    """Trace ``program`` with ``inputs`` in place of its own, in inference mode.

    Raises ``SourceError`` where it returns sparse or ragged tensors, or none.
    """
    tf = tensorflow()
    names = [spec.name for spec in inputs]
    found: dict[str, Any] = {}

    def flat(*tensors: Any) -> list[Any]:
        outputs = program.call(dict(zip(names, tensors, strict=True)))
        # An identity, so that an output that is an input, or twice the same, is its own tensor.
        found.clear()
        found.update({name: tf.identity(tensor) for name, tensor in outputs.items()})
        return list(found.values())

    specs = [
        tf.TensorSpec(
            None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape],
            getattr(tf, spec.dtype),
            name=f"onnxpress_input_{index}",
        )
        for index, spec in enumerate(inputs)
    ]
    shown = ", ".join(map(str, inputs))
    with told(f"{program.name} on {shown} failed", "a model that runs in inference mode"):
        function = tf.function(flat, input_signature=specs, autograph=False)
        concrete = function.get_concrete_function()
    batched = any(spec.dynamic_batch for spec in inputs)
    outputs = [_output(name, tensor, batched) for name, tensor in found.items()]
    return Traced(function, concrete, Signature(inputs, tuple(outputs)))


def input_spec(name: str, shape: Any, dtype: Any, lone: bool) -> TensorSpec:
    """An input from what TensorFlow knows: free axes get the names of what they usually are.

    Several inputs (not ``lone``) share the batch alone: the length of one is not the other's.
    Raises ``SourceError`` for strings and for types that have no place in ONNX.
    """
    tf = tensorflow()
    kind = tf.as_dtype(dtype)
    if kind == tf.string or not (kind.is_floating or kind.is_integer or kind.is_bool):
        raise SourceError(
            f"input '{name}' is of the type {kind.name}",
            "numbers",
            "leave text and look-ups to the preprocessing",
        )
    if shape is None or getattr(shape, "rank", 0) is None:
        raise SourceError(
            f"input '{name}' has any number of dimensions", "a known number of dimensions"
        )
    dims = tuple(shape)
    known = AXES.get(len(dims), ("batch",))
    symbols = [known[axis] if axis < len(known) else f"axis_{axis}" for axis in range(len(dims))]
    return TensorSpec(
        name,
        kind.name,
        tuple(
            int(dim) if dim is not None else symbol if axis == 0 or lone else f"{name}_{symbol}"
            for axis, (dim, symbol) in enumerate(zip(dims, symbols, strict=True))
        ),
    )


def told_inputs(
    known: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    """``known`` with the types and names of free axes that ``--input`` tells."""
    by_name = {spec.name: spec for spec in given}
    for name in by_name.keys() - {spec.name for spec in known}:
        names = ", ".join(spec.name for spec in known)
        raise InputError(f"--input names '{name}'", f"one of {names}")
    for spec in known:
        told_type = by_name.get(spec.name, spec).dtype
        if told_type != spec.dtype:
            raise InputError(f"--input gives {spec.name} the type {told_type}", str(spec))
    return tuple(
        _shaped(spec, by_name[spec.name].shape, "--input") if spec.name in by_name else spec
        for spec in known
    )


def wanted_inputs(program: Program, options: ExportOptions, example: Any) -> tuple[TensorSpec, ...]:
    """The inputs as ``--shape`` and ``--static`` ask for them."""
    names = [spec.name for spec in program.inputs]
    for name in options.shapes:
        if name not in names:
            raise InputError(f"--shape names input '{name}'", f"one of {', '.join(names)}")
    wanted = []
    for spec in program.inputs:
        shape = options.shapes.get(spec.name, spec.shape)
        made = _shaped(spec, shape, "--shape")
        if options.static and made.shape is not None:
            sizes = example[spec.name].shape
            fixed = [
                dim if isinstance(dim, int) else size
                for dim, size in zip(made.shape, sizes, strict=True)
            ]
            made = dataclasses.replace(made, shape=tuple(fixed))
        wanted.append(made)
    return tuple(wanted)


def _shaped(spec: TensorSpec, shape: tuple[int | str, ...] | None, flag: str) -> TensorSpec:
    """``spec`` with free axes fixed or named anew; fixed ones stay."""
    fits = shape is not None and spec.shape is not None and len(shape) == len(spec.shape)
    if not fits or any(
        isinstance(have, int) and want != have
        for have, want in zip(spec.shape or (), shape or (), strict=True)
    ):
        given = "" if shape is None else ",".join(map(str, shape))
        raise InputError(f"{flag} gives {spec.name} the shape {given}", f"one that fits {spec}")
    return dataclasses.replace(spec, shape=shape)


def flatten(
    outputs: Any, inputs: Collection[str] = (), names: Collection[str] | None = None
) -> dict[str, Any]:
    """Any nesting of tuples, lists and dicts as named tensors; None is left out.

    A lone tensor is ``output``, the items of a tuple ``output_0``, ``output_1``, …; the keys of
    a dict keep their names, nested ones joined by ``_``. ``names`` replaces all that, one for
    each tensor. A name that another output or one of ``inputs`` has gets a number, since ONNX
    has one space of names.
    """
    found: list[tuple[str, Any]] = []
    _flatten(outputs, "", found)
    if not found:
        raise SourceError(f"the model returned {type(outputs).__name__}", "tensors")
    if names is not None and len(names) == len(found):
        found = [(name, tensor) for name, (_, tensor) in zip(names, found, strict=True)]
    named: dict[str, Any] = {}
    for stem, tensor in found:
        name, count = stem, 1
        while name in named or name in inputs:
            name, count = f"{stem}_{count}", count + 1
        named[name] = tensor
    return named


def _flatten(value: Any, prefix: str, found: list[tuple[str, Any]]) -> None:
    tf = tensorflow()
    if isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(item, f"{prefix}_{key}" if prefix else str(key), found)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _flatten(item, f"{prefix or 'output'}_{index}", found)
    elif isinstance(value, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
        raise SourceError(
            f"output '{prefix or 'output'}' is a {type(value).__name__}", "dense tensors",
            "end the model with to_tensor() or tf.sparse.to_dense",
        )  # fmt: skip
    elif value is not None:
        found.append((prefix or "output", tf.convert_to_tensor(value)))


def _output(name: str, tensor: Any, batched: bool) -> TensorSpec:
    if tensor.dtype.name == "string":
        raise SourceError(f"output '{name}' is of the type string", "numbers")
    if tensor.shape.rank is None:
        return TensorSpec(name, tensor.dtype.name, None)
    dims = [
        int(dim) if dim is not None else "batch" if axis == 0 and batched else f"{name}_{axis}"
        for axis, dim in enumerate(tensor.shape)
    ]
    return TensorSpec(name, tensor.dtype.name, tuple(dims))
