"""Example inputs of a module, and its outputs by name. Needs PyTorch alone, no ONNX."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch

from onnxpress.errors import InputError, SourceError
from onnxpress.source import OpenOptions

EXAMPLE_BATCH = 2
"""torch.export takes a dimension of size 0 or 1 for a constant, so examples have two rows."""


@dataclass(frozen=True)
class Example:
    """Inputs that a module accepts: tensors by input name, and how they are passed.

    ``free`` maps an input to the names of its free axes where the user or the file told them;
    ``asked`` tells that it was the user, who gets them or an error.
    """

    tensors: Mapping[str, torch.Tensor]
    keywords: bool = False
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    asked: bool = False

    def call(
        self, module: torch.nn.Module, tensors: Mapping[str, torch.Tensor] | None = None
    ) -> object:
        """What the module returns; with ``tensors``, by name, in the place of the example's."""
        given = tensors or self.tensors
        if self.keywords:
            result: object = module(**given)
        else:
            result = module(*(given[name] for name in self.tensors))
        return result

    def plain_outputs(self, module: torch.nn.Module) -> bool:
        """Whether the module returns nothing but tensors, tuples, lists and dicts."""
        with torch.inference_mode():
            return _is_plain(self.copied().call(module))

    def copied(self) -> Example:
        """The same values in tensors of their own, for modules that write into their inputs."""
        return self.with_tensors({name: tensor.clone() for name, tensor in self.tensors.items()})

    def doubled(self, module: torch.nn.Module) -> Example:
        """A batch of one twice, where the module takes that; otherwise the example as it is."""
        single = {
            name
            for name, tensor in self.tensors.items()
            if tensor.dim() and tensor.shape[0] == 1 and 0 in self.free.get(name, {0: ""})
        }
        if not single:
            return self
        twice = {
            name: tensor.repeat(EXAMPLE_BATCH, *[1] * (tensor.dim() - 1))
            if name in single
            else tensor.clone()
            for name, tensor in self.tensors.items()
        }
        example = self.with_tensors(twice)
        return example if example.runs(module) else self

    def runs(self, module: torch.nn.Module) -> bool:
        """Whether the module takes these inputs."""
        try:
            with torch.inference_mode():
                self.copied().call(module)
        except Exception:  # noqa: BLE001  # whatever its code raises, the answer is no
            return False
        return True

    def free_batch(self, module: torch.nn.Module, names: Collection[str]) -> bool:
        """Whether the module runs with one row more in the inputs of these names, too."""
        return self._longer(names, 1).runs(module)

    def twice_as_long(self, module: torch.nn.Module, names: Collection[str]) -> bool:
        """Whether the module runs with all rows of the inputs of these names twice."""
        return self._longer(names, None).runs(module)

    def _longer(self, names: Collection[str], rows: int | None) -> Example:
        longer = {
            name: torch.cat([tensor, tensor[:rows]]) if tensor.dim() and name in names else tensor
            for name, tensor in self.tensors.items()
        }
        return self.with_tensors(longer)

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Example:
        """The same call with other tensors, in this example's order."""
        return replace(self, tensors={name: tensors[name] for name in self.tensors})

    def __str__(self) -> str:
        parts = [
            f"{name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            for name, tensor in self.tensors.items()
        ]
        return ", ".join(parts)


def example_of(module: torch.nn.Module, given: object, options: OpenOptions) -> Example:
    """The example that the factory gave, or one made from ``--input`` or the image size.

    Raises ``InputError`` that names the flags where nothing tells what the module takes.
    """
    if isinstance(given, Example):
        return given
    names = _parameters(module)
    if isinstance(given, Mapping):
        return Example({str(name): _tensor(value) for name, value in given.items()}, keywords=True)
    if given is not None:
        values = list(given) if isinstance(given, tuple | list) else [given]
        return Example(dict(zip(_named(names, len(values)), map(_tensor, values), strict=True)))
    if options.inputs:
        tensors = {spec.name: _random(spec.dtype, spec.shape or ()) for spec in options.inputs}
        free = {
            spec.name: {axis: d for axis, d in enumerate(spec.shape or ()) if isinstance(d, str)}
            for spec in options.inputs
        }
        return Example(tensors, keywords=_by_name(module, list(tensors)), free=free, asked=True)
    image = options.processing.image if options.processing else None
    size = (image.crop or image.size) if image else None
    if image is None or size is None:
        raise InputError(
            f"nothing says what {type(module).__name__} takes",
            "a factory that returns (module, example_inputs)",
            "or give --input NAME:DTYPE[dims], such as --input x:float32[batch,3,224,224], "
            "or --preprocess size=… for images",
        )
    channels = _image_channels(module) or max(len(image.mean), len(image.std), 1)
    height, width = size
    shape = (1, channels, height, width)
    if image.layout == "nhwc":
        shape = (1, height, width, channels)
    return Example({_named(names, 1)[0]: _random("float32", shape)})


def _by_name(module: torch.nn.Module, names: list[str]) -> bool:
    """Whether these are names of what ``forward`` takes; where none is, they go by position.

    Raises ``InputError`` where some are and others are not: one is misspelt.
    """
    known = _parameters(module, keywords=True)
    strange = [name for name in names if name not in known]
    if len(strange) == len(names):
        return False
    if strange and not _takes_any(module):
        raise InputError(
            f"--input {strange[0]}: forward has no such parameter", f"one of {', '.join(known)}"
        )
    return True


def _takes_any(module: torch.nn.Module) -> bool:
    """Whether ``forward`` has ``**kwargs``."""
    if isinstance(module, torch.jit.ScriptModule):
        return False
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _parameters(module: torch.nn.Module, *, keywords: bool = False) -> list[str]:
    """The names of what ``forward`` takes by position, or by keyword; not ``*args``."""
    if isinstance(module, torch.jit.ScriptModule):
        return [argument.name for argument in module.forward.schema.arguments[1:]]  # type: ignore[attr-defined]  # a ScriptMethod
    one = inspect.Parameter
    kinds = {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY if keywords else one.POSITIONAL_ONLY}
    parameters = inspect.signature(module.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(map(_is_plain, value.values()))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, torch.Tensor)


def flatten(outputs: object, inputs: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """Any nesting of tuples, dicts and dataclasses as named tensors; None is left out.

    A lone tensor is ``output``, the items of a tuple ``output_0``, ``output_1``, …; the keys of
    a dict and the fields of a dataclass keep their names, nested ones joined by ``_``. A name
    that another output or one of ``inputs`` has gets a number, since ONNX has one space of names.
    """
    found: list[tuple[str, torch.Tensor]] = []
    if isinstance(outputs, torch.Tensor):
        found.append(("output", outputs))
    else:
        _flatten(outputs, "", found)
    if not found:
        raise SourceError(f"the model returned {type(outputs).__name__}", "tensors")
    named: dict[str, torch.Tensor] = {}
    for index, (told, tensor) in enumerate(found):
        stem = told or f"output_{index}"  # the key of a dict may be empty, a name may not
        name, count = stem, 1
        while name in named or name in inputs:
            name, count = f"{stem}_{count}", count + 1
        named[name] = tensor
    return named


def _flatten(value: object, prefix: str, found: list[tuple[str, torch.Tensor]]) -> None:
    if isinstance(value, torch.Tensor):
        found.append((prefix, value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(item, f"{prefix}_{key}" if prefix else str(key), found)
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            name = f"{prefix}_{item.name}" if prefix else item.name
            _flatten(getattr(value, item.name), name, found)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _flatten(item, f"{prefix or 'output'}_{index}", found)
    elif value is not None:
        raise SourceError(f"the model returned {type(value).__name__} in its outputs", "tensors")


def _tensor(value: object) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise SourceError(
            f"the example inputs hold a {type(value).__name__}", "tensors, batch first"
        ) from None


def _random(dtype: str, shape: tuple[int | str, ...]) -> torch.Tensor:
    """Seeded values; a free first dimension has one row, any other free one 16."""
    sizes = [
        dim if isinstance(dim, int) else 1 if axis == 0 else 16 for axis, dim in enumerate(shape)
    ]
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise InputError(f"--input has the type {dtype}", "float32, int64, bool, …")
    generator = torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        return torch.randn(sizes, generator=generator).to(kind)
    return torch.randint(0, 2, sizes, generator=generator).to(kind)


def _named(names: list[str], count: int) -> list[str]:
    """The forward parameters' names for ``count`` positional inputs."""
    return names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]


def _image_channels(module: torch.nn.Module) -> int | None:
    """How many channels the module's first convolution reads."""
    for inner in module.modules():
        if isinstance(inner, torch.nn.Conv2d):
            return inner.in_channels
    weights = (p for p in module.parameters() if p.dim() == 4)  # TorchScript has no Conv2d
    first = next(weights, None)
    return None if first is None else first.shape[1]
