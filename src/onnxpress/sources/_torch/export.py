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
from pathlib import Path
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from torch.jit._trace import TracerWarning

from onnxpress.errors import InputError, SourceError
from onnxpress.model import Model, load
from onnxpress.opsets import nearest
from onnxpress.source import Exported, ExportOptions
from onnxpress.sources._torch.example import Example, flatten
from onnxpress.sources._torch.operators import Translations, culprit, refuse_unknown

DYNAMO_OPSETS = (18, 23)
TORCHSCRIPT_OPSETS = (9, 20)
"""The opsets that the exporters of PyTorch 2.13 write, and older ones do no worse."""

FROZEN = "onnxpress.frozen"
"""Metadata: where a trace followed one branch, or took a value for a constant."""

Axes = Mapping[str, Mapping[int, str]]
"""Input → axis → name of its free dimension."""

Way = Callable[[], AbstractContextManager[object]]
"""Within it the module computes the same by other operators."""

PLAIN_WAY: Mapping[str, Way] = {"": contextlib.nullcontext}


def export(
    module: torch.nn.Module,
    example: Example,
    outputs: tuple[str, ...],
    options: ExportOptions,
    free: Axes | None = None,
    ways: Mapping[str, Way] = PLAIN_WAY,
    translations: Translations | None = None,
) -> Exported:
    """Try the dynamo exporter, then TorchScript; then both with fewer free dimensions.

    ``free`` names dimensions beside the batch that the module is known to leave open; ``ways``
    are tried in turn with each exporter; ``translations`` are for the dynamo exporter. Raises
    ``SourceError`` with each exporter's reason where all fail, and for an operator of the user's
    own without translation.
    """
    exporters = ("dynamo", "torchscript") if options.exporter == "auto" else (options.exporter,)
    dynamic = {} if options.static else _dynamic_axes(example, options, free or {})
    reasons: list[str] = []
    errors: dict[str, Exception] = {}
    if dynamic and not options.shapes and not example.free_batch(module):
        reasons.append("the model itself takes no other batch size than the example's")
        dynamic = {}
    choices = [(dynamic, "")]
    if dynamic and not options.shapes:
        if free:
            choices.append((_dynamic_axes(example, options, {}), "only the batch is free"))
        choices.append(({}, "the batch size is fixed to the example's"))
    traced = (
        module if example.plain_outputs(module) else _Flat(module, outputs, tuple(example.tensors))
    )
    for (axes, loss), name, way in itertools.product(choices, exporters, ways):
        run = _dynamo if name == "dynamo" else _torchscript
        try:
            with _quiet(), ways[way]():
                model = run(traced, example, outputs, axes, options.opset, translations or {})
        except Exception as error:  # noqa: BLE001  # exporters raise anything; the reason is kept
            with _quiet(), ways[way]():
                refuse_unknown(error, module, example)
            why = _reason(error)
            if why not in errors:  # fewer free dimensions rarely help, and say the same again
                how = ", ".join(part for part in (name, way, loss) if part)
                reasons.append(f"{how}: {why}")
            errors[why] = error
            continue
        if loss:
            reasons.append(loss)
        if FROZEN in model.metadata:
            reasons.append(model.metadata[FROZEN])
        _clean(model)
        model.metadata["onnxpress.exporter"] = f"torch {torch.__version__} {name}"
        if reasons:
            model.metadata["onnxpress.fallback_reason"] = "; ".join(reasons)
        return Exported(model, name, "; ".join(reasons) or None)
    with _quiet():
        what = culprit(errors.values(), module, example)
    raise SourceError(
        f"no exporter could convert {what} ({'; '.join(reasons)})",
        "a model that torch.export or torch.jit.trace can follow",
    )


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
    if axes:
        first = next(iter(next(iter(axes.values())).values()))
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


def _dynamic_axes(
    example: Example, options: ExportOptions, free: Axes
) -> dict[str, Mapping[int, str]]:
    """The free dimensions of ``--shape``, of ``--input``, otherwise the batch and known ones."""
    axes: dict[str, Mapping[int, str]] = {
        name: {0: "batch", **free.get(name, {})}
        for name, tensor in example.tensors.items()
        if tensor.dim() > 0
    }
    axes |= example.free
    for name, shape in options.shapes.items():
        if name not in example.tensors:
            known = ", ".join(example.tensors)
            raise InputError(f"--shape names input '{name}'", f"one of {known}")
        if len(shape) != example.tensors[name].dim():
            raise InputError(f"--shape {name} has {len(shape)} dimensions", str(example))
        axes[name] = {axis: dim for axis, dim in enumerate(shape) if isinstance(dim, str)}
    return axes


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
