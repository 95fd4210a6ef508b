"""A model, quantised where ``quantize_static`` quantises it, as a module to train."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import NameFixPass

from onnxpress import registry
from onnxpress.engine import Engine, Session, require
from onnxpress.errors import InputError, SamplesError, SourceError
from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.source import OpenOptions, open_source
from onnxpress.training.aware import Aware
from onnxpress.training.batches import feeds_of
from onnxpress.training.borrowing import apart, as_it_was
from onnxpress.training.network import Network
from onnxpress.training.wiring import wired
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.convert import PROVING_ENGINE, convert
from onnxpress.verbs.optimize import optimize
from onnxpress.verbs.verify import Verified, compare

MOST_ROWS = 256
"""Rows of samples that ranges are observed on; training moves these on all there are."""


def quantize_aware(
    ref: object,
    samples: Iterable[object],
    *,
    example: object = None,
    weight_bits: int,
    activations: str = "uint8",
    calibrator: str = "minmax",
    options: OpenOptions | None = None,
) -> Aware:
    """Convert, optimise, observe ranges, place the pairs and make the module between them.

    Raises ``InputError`` for bad input and where there is nothing to quantise, ``SourceError``
    where the model does not convert or has an operator without a gradient here.
    """
    recipe = Recipe.parse(
        f"quantize_static(weight_bits={weight_bits}, activations={activations}, "
        f"calibrator={calibrator})"
    )
    items = _some(samples)
    named, frozen = _parameters(ref)
    model = _converted(ref, _alone(ref, items[0]) if example is None else example, options)
    names = [spec.name for spec in model.signature.inputs]
    feeds = [feeds_of(item, names) for item in items]
    float_model = optimize(model, lambda: feeds[:1]).model.clone()
    NameFixPass()(float_model.ir)  # a node is found again by its name
    quantized, change = recipe.apply(float_model, gather(recipe, float_model, lambda: feeds))
    if not change.changed:
        why = "; ".join(change.reasons) or "it has no linear operator with constant weights"
        raise InputError(f"nothing in this model can be quantised: {why}", "a model to quantise")
    verified = _compared(wired(float_model), float_model, feeds[0])
    frozen = {*frozen, *_renamed(float_model, ref, frozen)}
    network = wired(float_model, quantized, weight_bits, named, frozen)
    return Aware(network, quantized, change.refusals, verified)


def _some(samples: Iterable[object]) -> list[object]:
    """The first items, of ``MOST_ROWS`` rows in all."""
    found: list[object] = []
    rows = 0
    for item in samples:
        found.append(item)
        rows += _rows(item)
        if rows >= MOST_ROWS:
            break
    if not found:
        raise SamplesError("there are no samples", "batches of inputs to observe ranges on")
    return found


def _rows(item: object) -> int:
    """How many rows a batch of any form has, by its first tensor."""
    while isinstance(item, tuple | list | Mapping) and item:
        item = next(iter(item.values() if isinstance(item, Mapping) else item))
    shape: tuple[int, ...] = getattr(item, "shape", ())
    return shape[0] if shape else 1


def _parameters(ref: object) -> tuple[Collection[str], Collection[str]]:
    """Names of a module's parameters, and of those that stay, with its buffers."""
    if not isinstance(ref, torch.nn.Module):
        return (), ()
    parameters = dict(ref.named_parameters(remove_duplicate=False))
    devices = {str(parameter.device) for parameter in parameters.values()} - {"cpu"}
    if devices:
        raise InputError(
            f"the module is on {', '.join(sorted(devices))}",
            "a module on the CPU",
            "move it with .cpu(); what comes back can be moved again before it is trained",
        )
    fixed = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    return set(parameters), fixed | {name for name, _ in ref.named_buffers()}


def _own(model: Model) -> None:
    """Copy all constants: exporters lend those of a live module, which may change any time."""
    for graph in model.ir.graphs():
        for name, value in graph.initializers.items():
            if value.const_value is not None and value.dtype != ir.DataType.STRING:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=name)


def _renamed(model: Model, ref: object, frozen: Collection[str]) -> set[str]:
    """Initializers that are a frozen parameter transposed, which exporters call by a new name."""
    if not isinstance(ref, torch.nn.Module):
        return set()
    kept = [p.detach().numpy() for name, p in ref.named_parameters() if name in frozen]
    known = [array.T for array in kept if array.ndim == 2]
    return {
        name
        for name, value in model.ir.graph.initializers.items()
        if value.const_value is not None and len(value.const_value.shape) == 2
        if any(np.array_equal(array, value.const_value.numpy()) for array in known)
    }


def _converted(ref: object, example: object, options: OpenOptions | None) -> Model:
    """As ONNX, proven equal. Raises ``SourceError`` where it is not."""
    if isinstance(ref, Model):
        return ref
    with contextlib.ExitStack() as stack:
        if isinstance(ref, torch.nn.Module):
            stack.enter_context(as_it_was(ref))
            stack.enter_context(apart(ref))
            ref = (ref, example)
        converted = convert(stack.enter_context(open_source(ref, options)))
        _own(converted.model)
    if converted.verified is not None and not converted.verified.ok:
        raise SourceError(
            f"the converted model differs: {converted.verified.first_mismatch}",
            "a model that converts to the same answers",
            "onnxpress convert shows more",
        )
    return converted.model


def _alone(ref: object, item: object) -> object:
    """The inputs in an item of a loader, which may hold targets too."""
    if not isinstance(ref, torch.nn.Module) or not isinstance(item, tuple | list):
        return item
    one = inspect.Parameter
    needed = [
        parameter
        for parameter in inspect.signature(ref.forward).parameters.values()
        if parameter.kind is one.VAR_POSITIONAL
        or (parameter.kind is not one.VAR_KEYWORD and parameter.default is one.empty)
    ]
    nested = bool(item) and isinstance(item[0], tuple | list | Mapping)
    return item[0] if len(item) == 2 and (nested or len(needed) < 2) else item


class _NetworkSession(Session):
    """A network as what ``compare`` runs."""

    def __init__(self, network: Network, signature: Signature) -> None:
        super().__init__()
        self._network, self.signature = network, signature

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with torch.inference_mode():
            made = self._network(**{name: torch.from_numpy(a) for name, a in feeds.items()})
        tensors = made if isinstance(made, tuple) else (made,)
        return {
            spec.name: tensor.numpy()
            for spec, tensor in zip(self.signature.outputs, tensors, strict=True)
        }


def _compared(network: Network, model: Model, feeds: Feeds) -> Verified:
    """The proof that every operator here computes what ONNX Runtime does."""
    engine = registry.create(Engine, "engines", PROVING_ENGINE)
    require(engine, PROVING_ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = model.clone().save(Path(folder) / "float.onnx")
        settings = Settings(PROVING_ENGINE, custom_ops=model.custom_ops)
        with (
            engine.open(path, settings) as reference,
            _NetworkSession(network, model.signature) as session,
        ):
            verified = compare(reference, session, [feeds])
    if not verified.ok:
        raise SourceError(
            f"the module to train differs from the model: {verified.first_mismatch}",
            "the same answers before any rounding",
            "please report this model; onnxpress quantize needs no training",
        )
    return verified
