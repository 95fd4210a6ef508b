"""A model, quantised where ``quantize_static`` quantises it, as a module to train."""

from __future__ import annotations

import contextlib
import inspect
import operator
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from onnxpress import registry
from onnxpress.engine import Engine, Session, require
from onnxpress.errors import InputError, SourceError
from onnxpress.model import Model
from onnxpress.recipe import Recipe
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.source import OpenOptions
from onnxpress.training.aware import Aware
from onnxpress.training.batches import feeds_of
from onnxpress.training.calibration import first_of, refuse_unfit, told_of
from onnxpress.training.conversion import conversion, optimized
from onnxpress.training.frozen import Frozen, frozen
from onnxpress.training.network import Network
from onnxpress.training.wiring import wired
from onnxpress.verbs.calibrate import gather
from onnxpress.verbs.convert import PROVING_ENGINE
from onnxpress.verbs.samples_seen import Watched
from onnxpress.verbs.schemes import refuse_quantized
from onnxpress.verbs.verify import Verified, compare


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
    bits = _bits(weight_bits)
    recipe = Recipe.parse(
        f"quantize_static(weight_bits={bits}, activations={activations}, calibrator={calibrator})"
    )
    items, rows = first_of(samples)
    named: Collection[str] = ()
    if isinstance(ref, torch.nn.Module):
        named = _parameters(ref)
        example = _alone(ref, items[0]) if example is None else example
    fixed = Frozen()
    with contextlib.ExitStack() as stack:
        if isinstance(ref, Model):
            model = ref
        else:
            converted = stack.enter_context(conversion(ref, example, options))
            model = converted.first()
        refuse_quantized(model)
        names = [spec.name for spec in model.signature.inputs]
        feeds = [feeds_of(item, names) for item in items]
        refuse_unfit(feeds)
        float_model = optimized(model, feeds)
        if isinstance(ref, torch.nn.Module):
            fixed = frozen(ref, float_model, lambda: optimized(converted.again(), feeds))
    watched = Watched(lambda: feeds, rows)
    quantized, change = recipe.apply(float_model, gather(recipe, float_model, watched))
    if not change.changed:
        why = "; ".join(change.reasons) or "it has no linear operator with constant weights"
        raise InputError(f"nothing in this model can be quantised: {why}", "a model to quantise")
    verified = _compared(wired(float_model), float_model, feeds[0])
    network = wired(float_model, quantized, bits, named, fixed.names)
    warnings = (*told_of(watched, rows), *_mixed([n for n in network.trained if n in fixed.mixed]))
    return Aware(network, quantized, change.refusals, verified, warnings)


def _bits(given: object) -> int:
    try:
        return operator.index(given)  # type: ignore[arg-type]  # what it is made to tell
    except TypeError:
        raise InputError(f"weight_bits={given!r}", "a whole number, 2 to 8") from None


def _mixed(names: Sequence[str]) -> list[str]:
    """What is told of trained constants that frozen parameters have a part in."""
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"frozen parameters are folded into what is trained: {shown}"]


def _parameters(module: torch.nn.Module) -> Collection[str]:
    """Their names. Raises ``InputError`` where they cannot be trained here."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    devices = {str(parameter.device) for parameter in parameters.values()} - {"cpu"}
    if devices:
        raise InputError(
            f"the module is on {', '.join(sorted(devices))}",
            "a module on the CPU",
            "move it with .cpu(); what comes back can be moved again before it is trained",
        )
    types = {parameter.dtype for parameter in parameters.values() if parameter.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in types - {torch.float32})
    if others:
        raise InputError(f"the module is {', '.join(others)}", "float32", "call module.float()")
    return parameters.keys()


def _alone(module: torch.nn.Module, item: object) -> object:
    """The inputs in an item of a loader, which may hold targets too."""
    if not isinstance(item, tuple | list):
        return item
    one = inspect.Parameter
    needed = [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
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
