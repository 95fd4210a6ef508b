"""Small real models, exported by PyTorch: what every pass, engine and verb is tested on.

``cnn`` (BatchNormalization folded by the exporter), ``cnn_bn`` (kept), ``transformer`` by either
exporter, ``lstm``, ``mlp``. Batches of any size; weights are seeded, so runs agree.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from onnxpress.model import load
from onnxpress.signature import Feeds, Signature
from zoo.networks import Cnn, Lstm, Mlp, Transformer, randomise

OPSET = 18


@dataclass(frozen=True)
class _Entry:
    """How one model is made: ``exporter`` is ``dynamo`` or ``torchscript``."""

    network: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]
    free: dict[int, str]
    outputs: tuple[str, ...] = ("output",)
    exporter: str = "dynamo"


_IDS = (lambda: torch.arange(10).reshape(2, 5) % 50, {0: "batch", 1: "length"})
_ENTRIES = {
    "cnn": _Entry(Cnn, lambda: torch.ones(2, 3, 32, 32), {0: "batch"}),
    "cnn_bn": _Entry(Cnn, lambda: torch.ones(2, 3, 32, 32), {0: "batch"}, exporter="torchscript"),
    "lstm": _Entry(Lstm, lambda: torch.ones(2, 12, 6), {0: "batch"}, exporter="torchscript"),
    "mlp": _Entry(Mlp, lambda: torch.ones(2, 7), {0: "batch"}, ("probabilities", "features")),
    "transformer": _Entry(Transformer, *_IDS),
    "transformer_torchscript": _Entry(Transformer, *_IDS, exporter="torchscript"),
}


def names() -> list[str]:
    """Every model of the zoo."""
    return sorted(_ENTRIES)


def module(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The PyTorch module, in evaluation mode, and example inputs for a batch of 2."""
    entry = _ENTRIES[name]
    return randomise(entry.network()), (entry.example(),)


def build(name: str, folder: Path) -> Path:
    """Export to ``folder / name.onnx``, once: a file that is there already is the answer."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        network, example = module(name)
        export = {"dynamo": _dynamo, "torchscript": _torchscript}[_ENTRIES[name].exporter]
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            export(_ENTRIES[name], network, example, path)
    return path


def _dynamo(
    entry: _Entry, network: nn.Module, example: tuple[torch.Tensor, ...], path: Path
) -> None:
    free = {axis: torch.export.Dim(symbol, min=1, max=64) for axis, symbol in entry.free.items()}
    program = torch.onnx.export(
        network,
        example,
        input_names=["input"],
        output_names=list(entry.outputs),
        dynamic_shapes=(free,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def _torchscript(
    entry: _Entry, network: nn.Module, example: tuple[torch.Tensor, ...], path: Path
) -> None:
    """Kept as written: with ``PRESERVE`` and no folding BatchNormalization stays."""
    axes = {"input": entry.free, **{name: {0: "batch"} for name in entry.outputs}}
    torch.onnx.export(
        network,
        example,
        path,
        input_names=["input"],
        output_names=list(entry.outputs),
        dynamic_axes=axes,
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )


def feeds(model: Path | Signature, batch: int, seed: int = 0) -> Feeds:
    """Random inputs for a model file or a signature: ``batch`` rows, other free dimensions 6.

    Floats are normal; integers are token ids below 50.
    """
    signature = model if isinstance(model, Signature) else load(model).signature
    generator = np.random.default_rng(seed)
    result: Feeds = {}
    for spec in signature.inputs:
        assert spec.shape is not None
        free = [batch if axis == 0 else 6 for axis in range(len(spec.shape))]
        shape = [dim if isinstance(dim, int) else free[axis] for axis, dim in enumerate(spec.shape)]
        if np.issubdtype(np.dtype(spec.dtype), np.integer):
            result[spec.name] = generator.integers(0, 50, shape).astype(spec.dtype)
        else:
            result[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
    return result
