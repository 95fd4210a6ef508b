"""A model, quantised where ``quantize_static`` quantises it, as a module to train."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
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
    weight_bits: int = 8,
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
    shape = getattr(item, "shape", ())
    return int(shape[0]) if len(shape) else 1


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


def _converted(ref: object, example: object, options: OpenOptions | None) -> Model:
    """As ONNX, proven equal. Raises ``SourceError`` where it is not."""
    if isinstance(ref, Model):
        return ref
    modules = list(ref.modules()) if isinstance(ref, torch.nn.Module) else []
    modes = [module.training for module in modules]
    given = (ref, example) if modules else ref
    try:
        with open_source(given, options) as origin:
            converted = convert(origin)
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
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
