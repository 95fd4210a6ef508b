"""How an nn.Module becomes ONNX: example inputs, output names, both of PyTorch's exporters."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch

from onnxpress.errors import InputError, SourceError
from onnxpress.model import Model, load
from onnxpress.source import Exported, ExportOptions, OpenOptions

TORCHSCRIPT_OPSET = 17
EXAMPLE_BATCH = 2
"""torch.export takes a dimension of size 0 or 1 for a constant, so examples have two rows."""


@dataclass(frozen=True)
class Example:
    """Inputs that a module accepts: tensors by input name, and how they are passed."""

    tensors: Mapping[str, torch.Tensor]
    keywords: bool = False

    def call(self, module: torch.nn.Module) -> object:
        if self.keywords:
            result: object = module(**self.tensors)
            return result
        result = module(*self.tensors.values())
        return result

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Example:
        """The same call with other tensors, in this example's order."""
        return Example({name: tensors[name] for name in self.tensors}, self.keywords)

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
    names = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    if isinstance(given, Mapping):
        return Example({str(name): _tensor(value) for name, value in given.items()}, keywords=True)
    if given is not None:
        values = list(given) if isinstance(given, tuple | list) else [given]
        return Example(dict(zip(_named(names, len(values)), map(_tensor, values), strict=True)))
    if options.inputs:
        tensors = {spec.name: _random(spec.dtype, spec.shape or ()) for spec in options.inputs}
        return Example(tensors, keywords=set(tensors) <= set(names))
    image = options.processing.image if options.processing else None
    size = image and (image.crop or image.size)
    if image is None or size is None:
        raise InputError(
            f"nothing says what {type(module).__name__} takes",
            "a factory that returns (module, example_inputs)",
            "or give --input NAME:DTYPE[dims], such as --input x:float32[batch,3,224,224], "
            "or --preprocess size=… for images",
        )
    channels = _image_channels(module) or max(len(image.mean), len(image.std), 1)
    shape = (EXAMPLE_BATCH, channels, *size)
    if image.layout == "nhwc":
        shape = (EXAMPLE_BATCH, *size, channels)
    return Example({_named(names, 1)[0]: _random("float32", shape)})


def flatten(outputs: object) -> dict[str, torch.Tensor]:
    """Any nesting of tuples, dicts and dataclasses as named tensors; None is left out.

    A lone tensor is ``output``, the items of a tuple ``output_0``, ``output_1``, …; the keys of
    a dict and the fields of a dataclass keep their names, nested ones joined by ``_``.
    """
    if isinstance(outputs, torch.Tensor):
        return {"output": outputs}
    found: dict[str, torch.Tensor] = {}
    _flatten(outputs, "", found)
    if not found:
        raise SourceError(f"the model returned a {type(outputs).__name__}", "tensors")
    return found


def _flatten(value: object, prefix: str, found: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found[prefix] = value
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
        raise SourceError(f"the model returned a {type(value).__name__} in its outputs", "tensors")


def export(
    module: torch.nn.Module, example: Example, outputs: tuple[str, ...], options: ExportOptions
) -> Exported:
    """Try the dynamo exporter, then TorchScript; then both with the batch size fixed.

    Raises ``SourceError`` with each exporter's reason where all fail.
    """
    exporters = ("dynamo", "torchscript") if options.exporter == "auto" else (options.exporter,)
    dynamic = {} if options.static else _dynamic_axes(example, options)
    tries = [(name, dynamic) for name in exporters]
    if dynamic and not options.shapes:
        tries += [(name, {}) for name in exporters]
    reasons: list[str] = []
    for name, axes in tries:
        run = _dynamo if name == "dynamo" else _torchscript
        try:
            with _quiet():
                model = run(module, example, outputs, axes, options.opset)
        except Exception as error:  # noqa: BLE001  # exporters raise anything; the reason is kept
            reasons.append(f"{name}{'' if axes else ', fixed batch'}: {_reason(error)}")
            continue
        if not axes and dynamic:
            reasons.append("the batch size is fixed to the example's")
        _clean(model)
        model.metadata["onnxpress.exporter"] = f"torch {torch.__version__} {name}"
        if reasons:
            model.metadata["onnxpress.fallback_reason"] = "; ".join(reasons)
        return Exported(model, name, "; ".join(reasons) or None)
    raise SourceError(
        f"no exporter could convert {type(module).__name__} ({'; '.join(reasons)})",
        "a model that torch.export or torch.jit.trace can follow",
    )


def _dynamo(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    axes: Mapping[str, Mapping[int, str]],
    opset: int | None,
) -> Model:
    dims: dict[str, torch.export.Dim] = {}
    shapes = {
        name: {axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in free.items()}
        for name, free in axes.items()
    }
    dynamic: object = None
    if shapes:
        dynamic = {name: shapes.get(name) or None for name in example.tensors}
        if not example.keywords:
            dynamic = tuple(dynamic.values())
    program = torch.onnx.export(
        module,
        () if example.keywords else tuple(example.tensors.values()),
        kwargs=dict(example.tensors) if example.keywords else None,
        input_names=list(example.tensors),
        output_names=list(outputs),
        dynamic_shapes=dynamic,
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return Model(program.model)


def _torchscript(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    axes: Mapping[str, Mapping[int, str]],
    opset: int | None,
) -> Model:
    batch = {name: dict(free) for name, free in axes.items()}
    if axes:
        first = next(iter(next(iter(axes.values())).values()))
        batch |= {name: {0: first} for name in outputs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (dict(example.tensors),) if example.keywords else tuple(example.tensors.values()),
            str(path),
            input_names=list(example.tensors),
            output_names=list(outputs),
            dynamic_axes=batch,
            opset_version=opset or TORCHSCRIPT_OPSET,
            dynamo=False,
        )
        model = load(path)
        for tensors in (graph.initializers.values() for graph in model.ir.graphs()):
            for value in tensors:
                if isinstance(value.const_value, ir.ExternalTensor):
                    value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    model.path = None
    return model


def _dynamic_axes(example: Example, options: ExportOptions) -> dict[str, dict[int, str]]:
    """Input → axis → name of its free dimension: those of ``--shape``, otherwise the batch."""
    axes = {name: {0: "batch"} for name, tensor in example.tensors.items() if tensor.dim() > 0}
    for name, shape in options.shapes.items():
        if name not in example.tensors:
            known = ", ".join(example.tensors)
            raise InputError(f"--shape names input '{name}'", f"one of {known}")
        if len(shape) != example.tensors[name].dim():
            raise InputError(f"--shape {name} has {len(shape)} dimensions", str(example))
        axes[name] = {axis: dim for axis, dim in enumerate(shape) if isinstance(dim, str)}
    return axes


def _tensor(value: object) -> torch.Tensor:
    """A tensor with at least two rows: a batch of one is repeated."""
    if not isinstance(value, torch.Tensor):
        value = torch.as_tensor(value)
    if value.dim() > 0 and value.shape[0] == 1:
        return value.repeat(EXAMPLE_BATCH, *[1] * (value.dim() - 1))
    return value


def _random(dtype: str, shape: tuple[int | str, ...]) -> torch.Tensor:
    """Seeded values; a free first dimension has two rows, any other free one 16."""
    sizes = [
        dim if isinstance(dim, int) else EXAMPLE_BATCH if axis == 0 else 16
        for axis, dim in enumerate(shape)
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
    plain = [name for name in names if name not in ("args", "kwargs")]
    return plain[:count] if len(plain) >= count else [f"input_{i}" for i in range(count)]


def _image_channels(module: torch.nn.Module) -> int | None:
    """How many channels the module's first convolution reads."""
    for inner in module.modules():
        if isinstance(inner, torch.nn.Conv2d):
            return inner.in_channels
    return None


def _clean(model: Model) -> None:
    """Keep what maps nodes to modules and source lines; drop this machine's folders."""
    for node in model.nodes():
        node.metadata_props.pop("pkg.torch.onnx.fx_node", None)
        trace = node.metadata_props.get("pkg.torch.onnx.stack_trace")
        if trace:
            relative = re.sub(r'File "(?:[^"]*/site-packages/|[^"]*/)([^"]+)"', r'File "\1"', trace)
            node.metadata_props["pkg.torch.onnx.stack_trace"] = relative


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print and warn at length; what matters comes back in the result."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: Exception) -> str:
    """The first line that says something, without colours and hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return re.sub(r"\x1b\[[0-9;]*m", "", cause)[:300]
