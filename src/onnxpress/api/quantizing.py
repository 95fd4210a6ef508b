"""Models in fewer bits: quantised as they are, or trained so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from onnxpress.calibrator import Calibrator
from onnxpress.errors import InputError, MissingExtra
from onnxpress.given import (
    bound_of,
    model_of,
    processing_of,
)
from onnxpress.machine import this_machine
from onnxpress.model import Model
from onnxpress.processing import Processing
from onnxpress.progress import Progress, silent
from onnxpress.samples import Samples
from onnxpress.spelling import read
from onnxpress.task import choose, unused_labels
from onnxpress.verbs.quantize import quantize as run_quantize
from onnxpress.verbs.quantized import Quantized
from onnxpress.verbs.schemes import Scheme, unsaturated
from onnxpress.wishes import wishes_of

if TYPE_CHECKING:
    from onnxpress.training.aware import Aware  # it imports PyTorch


def quantize(
    model: str | Path | Model | onnx.ModelProto,
    *,
    scheme: str,
    samples: object,
    calibrator: str | None = None,
    activations: str = "uint8",
    bits: int | None = None,
    exclude: Sequence[str] = (),
    ranges: str | Path | None = None,
    rank: bool = False,
    engine: str | None = None,
    floor: float | None = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    label: str | None = None,
    limit: int | None = None,
    threads: int | None = None,
    provider: str | None = None,
    session: Sequence[str] | Mapping[str, str] = (),
    settings: str | Path | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    progress: Progress = silent,
) -> Quantized:
    """Quantise with one scheme and measure what it did.

    ``scheme`` is ``static``, ``dynamic``, ``weight-only``, ``float16`` or ``bfloat16``, or several
    joined by ``+``, each for what those before it left in float.

    Calibration and scoring use different parts of ``samples``. Without a ``calibrator`` the one
    that does the least damage is found. ``bits`` are those of the weights: 8, with wider scales
    where the CPU saturates (``reduce_range``). ``exclude`` are patterns of nodes that stay float:
    names, operator types or modules of the source. The ``engine`` is onnxruntime, unless the scheme
    has bfloat16, which OpenVINO runs. ``ranges`` is a file to read the ranges from, or to write
    them to where there is none. Where the quality is below ``floor``, the fewest layers that it
    takes stay float; a quality that stays below is not an error: see ``Quantized.holds``. With
    ``rank`` the layers are ranked by the damage that each does (minutes for large models).
    """
    if settings is None and engine is None and "bfloat16" in scheme.split("+"):
        engine = "openvino"
    wishes = wishes_of(engine, threads, provider, session, settings)
    engine = wishes.of
    wanted = Scheme(scheme, engine, 8 if bits is None else bits, activations, calibrator)
    wanted, saturation = unsaturated(wanted, this_machine(), asked=bits is not None)
    if calibrator is not None:
        read(Calibrator, "calibrators", calibrator)
    if floor is not None and not floor <= 1:
        raise InputError(f"--floor {floor}", "a number of at most 1, such as 0.99")
    opened = model_of(model, custom_ops)
    processing = processing_of(preprocess, tokenizer, samples)
    given = Samples.open(samples, label=label, limit=limit, seed=seed, signature=opened.signature)
    data, note = given.fitting(opened.signature)
    task = task or choose(opened.signature, data.kind)
    bound = bound_of(opened.signature, data, task, processing)
    result = run_quantize(
        opened,
        bound,
        data,
        wanted,
        settings=wishes.settings.with_custom_ops(opened.custom_ops),
        exclude=exclude,
        ranges=None if ranges is None else Path(ranges),
        floor=floor,
        rank=rank,
        seed=seed,
        progress=progress,
    )
    note = unused_labels(task, labelled=given.has_labels) or note
    notes = tuple(text for text in (note, saturation) if text)
    return replace(result, warnings=(*notes, *result.warnings))


def quantize_aware(
    ref: object,
    example_inputs: object = None,
    *,
    samples: Iterable[object],
    weight_bits: int | None = None,
    activations: str = "uint8",
    calibrator: str = "minmax",
) -> Aware:
    """A PyTorch module that computes what the quantised model will, to be trained as such.

    ``ref`` is an ``nn.Module`` (in evaluation mode: BatchNorm is folded, dropout left out), which
    stays as it is, or anything that converts to ONNX. ``samples`` are batches of its inputs, such
    as a loader yields, with or without targets; ranges are observed on the first 256 rows.
    ``weight_bits`` (2 to 8) are stored as int8; without, 8, or 7 where this CPU saturates 8 (see
    ``onnxpress check``). Train ``Aware.module`` in a loop of your own or with ``Aware.fit``;
    ``Aware.model()`` is the ONNX model at any time, ``Aware.warnings`` what to know of samples and
    frozen parameters. Raises ``InputError`` where there is nothing to quantise, for samples with
    NaN or infinity and for what is not float32, ``SourceError`` for a model that does not convert
    or has an operator without a gradient here, ``MissingExtra`` without PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra.of("torch", "torch", "trains models")
    from onnxpress.training.prepare import quantize_aware as run_quantize_aware

    known = model_of(ref, None) if isinstance(ref, Model | onnx.ModelProto) else ref
    return run_quantize_aware(
        known,
        samples,
        example=example_inputs,
        weight_bits=this_machine().weight_bits if weight_bits is None else weight_bits,
        activations=activations,
        calibrator=calibrator,
    )
