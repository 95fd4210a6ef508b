"""How an nn.Module becomes ONNX, by either of PyTorch's exporters."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from torch.jit._trace import TracerWarning

from onnxpress.errors import SourceError
from onnxpress.model import Model, load
from onnxpress.opsets import nearest
from onnxpress.source import Exported, ExportOptions
from onnxpress.sources._torch.axes import (
    Axes,
    asked_shapes,
    default_shapes,
    free_axes,
    sized,
)
from onnxpress.sources._torch.example import Example, flatten
from onnxpress.sources._torch.operators import Translations, culprit, refuse_unknown

DYNAMO_OPSETS = (18, 23)
TORCHSCRIPT_OPSETS = (9, 20)
"""The opsets that the exporters of PyTorch 2.13 write, and older ones do no worse."""

FROZEN = "onnxpress.frozen"
"""Metadata: where a trace followed one branch, or took a value for a constant."""

Way = Callable[[], AbstractContextManager[object]]
"""Within it the module computes the same by other operators."""

PLAIN_WAY: Mapping[str, Way] = {"": contextlib.nullcontext}


def export(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    options: ExportOptions,
    *,
    free: Axes | None = None,
    ways: Mapping[str, Way] = PLAIN_WAY,
    translations: Translations | None = None,
    given: Example | None = None,
) -> Exported:
    """Try the dynamo exporter, then TorchScript; then both with fewer free dimensions.

    ``free`` names dimensions beside the batch that the module is known to leave open; ``ways``
    are tried in turn with each exporter; ``translations`` are for the dynamo exporter; ``given``
    is the example whose batch is kept where it is to be fixed. Raises ``SourceError`` with each
    exporter's reason where all fail or fix a dimension that was asked free, and for an operator
    of the user's own without translation; ``InputError`` for shapes that the module does not take.
    """
    exporters = ("dynamo", "torchscript") if options.exporter == "auto" else (options.exporter,)
    choices, reasons = _choices(module, example, given or example, options, free or {})
    errors: dict[str, Exception] = {}
    frozen = dropped = ""
    traced = (
        module if example.plain_outputs(module) else _Flat(module, outputs, tuple(example.tensors))
    )
    for choice, name, way in itertools.product(choices, exporters, ways):
        run = _dynamo if name == "dynamo" else _torchscript
        how = ", ".join(part for part in (name, way, choice.loss) if part)
        translated = translations or {}
        try:
            with _quiet(), ways[way]():
                model = run(traced, choice.example, outputs, choice.axes, options.opset, translated)
        except Exception as error:  # noqa: BLE001  # exporters raise anything; the reason is kept
            with _quiet(), ways[way]():
                refuse_unknown(error, module, example)
            why = _reason(error)
            if why not in errors:  # fewer free dimensions rarely help, and say the same again
                reasons.append(f"{how}: {why}")
            errors[why] = error
            continue
        lost = _frozen(model, choice.axes)
        if lost:
            frozen = frozen or lost
            reasons.append(f"{how}: fixes {lost}")
            continue
        kept = {spec.name for spec in model.signature.inputs}
        unread = [one for one in example.tensors if one not in kept]
        if unread:
            dropped = dropped or unread[0]
            reasons.append(f"{how}: drops input '{unread[0]}'")
            continue
        if choice.loss:
            reasons.append(choice.loss)
        if FROZEN in model.metadata:
            reasons.append(model.metadata[FROZEN])
        _clean(model)
        model.metadata["onnxpress.exporter"] = f"torch {torch.__version__} {name}"
        if reasons:
            model.metadata["onnxpress.fallback_reason"] = "; ".join(reasons)
        return Exported(model, name, "; ".join(reasons) or None)
    told = "; ".join(reasons)
    if dropped:
        raise SourceError(
            f"the exported model has no input '{dropped}': its operators do not read it",
            "inputs that are computed with",
            "leave it out of the example, or let the factory's module give it to the model",
        )
    if frozen:
        raise SourceError(
            f"no exporter keeps {frozen} free ({told})",
            "a dimension that the model leaves open",
            "give its number",
        )
    with _quiet():
        what = culprit(errors.values(), module, example)
    raise SourceError(
        f"no exporter could convert {what} ({told})",
        "a model that torch.export or torch.jit.trace can follow",
    )


@dataclass(frozen=True)
class _Choice:
    """What to trace the module on, which axes are free, and what is lost by that."""

    example: Example
    axes: Axes
    loss: str = ""


def _choices(
    module: torch.nn.Module, example: Example, given: Example, options: ExportOptions, free: Axes
) -> tuple[list[_Choice], list[str]]:
    """What was asked for; where nothing was, fewer and fewer free axes. And what is known before.

    Fixed dimensions are those of ``given``, where the module runs on it.
    """
    fixed = given if given is example or given.runs(module) else example
    if options.static:
        sizes = {name: tuple(tensor.shape) for name, tensor in fixed.tensors.items()}
        numbers = {  # a name is no size: there the example's stays
            name: tuple(
                dim if isinstance(dim, int) else size
                for dim, size in zip(shape, sizes.get(name, shape), strict=False)
            )
            for name, shape in options.shapes.items()
        }
        return [_Choice(sized(fixed, asked_shapes(sizes, numbers, fixed), module), {})], []
    shapes = default_shapes(example, given, free)
    if options.shapes:
        shapes = asked_shapes(shapes, options.shapes, given)
        example = sized(example, shapes, module)
        _refuse_fixed_rows(example, free_axes(shapes), module)
        return [_Choice(example, free_axes(shapes))], []
    axes = free_axes(shapes)
    if example.asked:
        _refuse_fixed_rows(example, axes, module)
        return [_Choice(example if axes else fixed, axes)], []
    rows = [name for name, dims in axes.items() if 0 in dims]
    if not example.free_batch(module, rows or list(example.tensors)):
        return [_Choice(fixed, {})], [
            "the model itself takes no other batch size than the example's"
        ]
    choices = [_Choice(example, axes)]
    if free:
        batch = free_axes(default_shapes(example, given, {}))
        choices.append(_Choice(example, batch, "only the batch is free"))
    if axes:
        choices.append(_Choice(fixed, {}, "the batch size is fixed to the example's"))
    return choices, []


def _refuse_fixed_rows(example: Example, axes: Axes, module: torch.nn.Module) -> None:
    """Raise ``SourceError`` where first axes that were asked free have but one size."""
    names = [name for name, dims in axes.items() if 0 in dims]
    runs = example.free_batch(module, names) or example.twice_as_long(module, names)
    if names and not runs:
        first, size = names[0], example.tensors[names[0]].shape[0]
        raise SourceError(
            f"the model takes no other size than {size} on axis 0 of {first}, which was to be "
            f"free ('{axes[first][0]}')",
            "a dimension that the model leaves open",
            f"give its number: --shape {first}={size},…",
        )


def _frozen(model: Model, axes: Axes) -> str:
    """The first axis that was to be free and is not: ``axis 1 of x ('batch')``."""
    found = {spec.name: spec.shape or () for spec in model.signature.inputs}
    for name, free in axes.items():
        for axis, dim in free.items():
            if name in found and found[name][axis : axis + 1] != (dim,):
                return f"axis {axis} of {name} ('{dim}')"
    return ""


class _Flat(torch.nn.Module):
    """The module with its outputs as a plain tuple, since exporters know no dataclasses."""

    def __init__(
        self, module: torch.nn.Module, outputs: tuple[str, ...], inputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.model = module
        self.eval()
        # Both exporters read the inputs' names off the signature.
        flat = functools.partial(self._flat, outputs, inputs)
        self.forward = functools.wraps(module.forward)(flat)

    def _flat(
        self,
        outputs: tuple[str, ...],
        inputs: tuple[str, ...],
        *args: torch.Tensor,
        **kwargs: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        found = flatten(self.model(*args, **kwargs), inputs)
        return tuple(found[name] for name in outputs)


def _dynamo(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    axes: Axes,
    opset: int | None,
    translations: Translations,
) -> Model:
    dims: dict[str, torch.export.Dim] = {}
    shapes = {
        name: {axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in free.items()}
        for name, free in axes.items()
    }
    dynamic: dict[str, Any] | tuple[Any, ...] | None = None  # as torch declares it
    if shapes:
        named = {name: shapes.get(name) or None for name in example.tensors}
        dynamic = named if example.keywords else tuple(named.values())
    torch.compiler.reset()  # what an earlier export learned of a class fixes sizes of this one
    program = torch.onnx.export(
        module,
        () if example.keywords else tuple(example.tensors.values()),
        kwargs=dict(example.tensors) if example.keywords else None,
        input_names=list(example.tensors),
        output_names=list(outputs),
        dynamic_shapes=dynamic,
        opset_version=nearest(opset, *DYNAMO_OPSETS),
        dynamo=True,
        verbose=False,
        custom_translation_table=dict(translations) or None,
    )
    assert program is not None
    model = Model(program.model)
    return model.inlined() if translations else model  # operators that any engine knows


def _torchscript(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    axes: Axes,
    opset: int | None,
    _: Translations,
) -> Model:
    batch = {name: dict(free) for name, free in axes.items()}
    first = next((free[0] for free in axes.values() if 0 in free), None)
    if first is not None:
        batch |= {name: {0: first} for name in outputs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", TracerWarning)
            torch.onnx.export(
                module,
                (dict(example.tensors),) if example.keywords else tuple(example.tensors.values()),
                str(path),
                input_names=list(example.tensors),
                output_names=list(outputs),
                dynamic_axes=batch,
                opset_version=nearest(opset, *TORCHSCRIPT_OPSETS),
                dynamo=False,
            )
        model = load(path)
        for tensors in (graph.initializers.values() for graph in model.ir.graphs()):
            for value in tensors:
                if isinstance(value.const_value, ir.ExternalTensor):
                    value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    model.path = None
    places = dict.fromkeys(_place(one) for one in told if _is_decision(one))
    if places:
        model.metadata[FROZEN] = f"the trace keeps what was decided at {', '.join(places)}"
    return model


def _is_decision(told: warnings.WarningMessage) -> bool:
    """Whether the user's code made a Python number or truth of a tensor, which a trace keeps."""
    tracer = issubclass(told.category, TracerWarning)
    return tracer and "torch" not in Path(told.filename).parts


def _place(told: warnings.WarningMessage) -> str:
    return f"{Path(told.filename).name}:{told.lineno}"


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
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            # It prints whole graphs, past Python's streams.
            mock.patch.object(torch._C, "_jit_onnx_log", lambda *_: None),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: Exception) -> str:
    """The first line that says something, without colours and hints; of the cause, if known."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return re.sub(r"\x1b\[[0-9;]*m", "", cause)[:300]
