"""Models as graphs: converted, compared, inspected, checked, rewritten, written otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import onnx

from onnxpress.given import (
    batches_of,
    fitting,
    model_of,
    on,
    open_options,
    processing_of,
    recipe_of,
)
from onnxpress.model import Model, peek
from onnxpress.processing import Processing
from onnxpress.signature import TensorSpec
from onnxpress.source import Exporter, ExportOptions, Origin, open_source
from onnxpress.verbs.check import Checked, target_of
from onnxpress.verbs.check import check as run_check
from onnxpress.verbs.convert import Converted
from onnxpress.verbs.convert import convert as run_convert
from onnxpress.verbs.diff import Difference
from onnxpress.verbs.diff import diff as run_diff
from onnxpress.verbs.export import Exported
from onnxpress.verbs.export import export as run_export
from onnxpress.verbs.fix import fix as run_fix
from onnxpress.verbs.inspect import Inspected
from onnxpress.verbs.inspect import inspect as run_inspect
from onnxpress.verbs.listing import listing as run_listing
from onnxpress.verbs.opset import InOpset
from onnxpress.verbs.opset import change_opset as run_change_opset
from onnxpress.verbs.optimize import Optimized
from onnxpress.verbs.optimize import optimize as run_optimize
from onnxpress.verbs.verify import Verified, compare


def convert(
    ref: object,
    *,
    opset: int | None = None,
    shapes: Mapping[str, tuple[int | str, ...]] | None = None,
    static: bool = False,
    exporter: Exporter = "auto",
    verify: bool = True,
    inputs: Sequence[TensorSpec | str] = (),
    preprocess: str | Processing | None = None,
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
) -> Converted:
    """Convert ``ref`` to ONNX and compare it with the original on batches of 1, 2 and 5 rows.

    ``inputs`` tell what a model takes that does not say so: ``TensorSpec``, or texts such as
    ``x:float32[batch,3,224,224]``. A mismatch is not an error: see ``Converted.verified``.
    Raises ``SourceError`` where the model cannot be opened or no exporter can convert it.
    """
    options = open_options(inputs, preprocess, checkpoint, trust, custom_ops)
    wanted = ExportOptions(opset, shapes or {}, static, exporter)
    with open_source(ref, options) as origin:
        return run_convert(origin, wanted, verify=verify)


def verify(
    a: object,
    b: object,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    inputs: Sequence[TensorSpec | str] = (),
    checkpoint: str | Path | None = None,
    trust: bool = False,
    custom_ops: str | Path | None = None,
) -> Verified:
    """Compare two models of any kind on all ``samples``, or on random feeds of 1, 2 and 5 rows."""
    processing, own = processing_of(preprocess, tokenizer, samples), None
    options = open_options(inputs, processing, checkpoint, trust, custom_ops)
    with ExitStack() as stack:
        first = stack.enter_context(open_source(a, fitting(options, a)))
        second = stack.enter_context(open_source(b, fitting(options, b)))
        one = stack.enter_context(first.session())
        two = stack.enter_context(second.session())
        known = one.signature if first.kind == "onnx" else two.signature
        if samples is not None and processing is None:  # else nobody need know how
            own = first.processing or second.processing
        shows: Origin | Model = first if first.example else second
        if first.example is second.example is None and "onnx" in (first.kind, second.kind):
            shows = (first if first.kind == "onnx" else second).export(ExportOptions()).model
        batches = batches_of(known, samples, task, processing, limit, seed, shows, own=own)
        return on(batches, lambda feeds: compare(one, two, feeds()))


def inspect(
    model: str | Path | Model | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    custom_ops: str | Path | None = None,
) -> Inspected:
    """Count, measure and diagnose an ONNX model. Raises ``ModelError`` where it is none.

    ``shapes`` give inputs their shapes, or free dimensions their sizes: ``{"batch": [8]}``. All
    others have the size 1. With ``custom_ops`` also whether ONNX Runtime opens it with this
    library: else ``EngineError``.
    """
    return run_inspect(model_of(model, custom_ops), shapes)


def listing(model: str | Path | Model | onnx.ModelProto) -> Iterator[str]:
    """An ONNX model as text, a line for each node, with shapes."""
    return run_listing(model_of(model, None))


def check(
    model: str | Path | Model | onnx.ModelProto,
    *,
    runtime: str | None = None,
    isa: Sequence[str] | str = (),
    provider: str | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> Checked:
    """What is wrong with an ONNX model, or will be on its target, each finding with its fix.

    The target is this machine and the ONNX Runtime that is installed, but for ``runtime``
    (``onnxruntime==1.16``), ``isa`` (``AVX2``, or several by commas) and ``provider``
    (``CUDAExecutionProvider``, or ``NAME:key=value,…``). With ``samples`` activations are watched
    too. External data that ``load`` refuses is a finding. Raises ``ModelError`` for what is no
    ONNX, ``InputError`` for an unknown target.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    sets = [part for part in isa.split(",") if part.strip()] if isinstance(isa, str) else isa
    target = target_of(runtime, sets, provider)
    if isinstance(model, str | Path):
        opened = peek(model)
    else:
        opened = model_of(model, None).clone()
        opened.path = None  # the file need not be what the model is now
    opened = model_of(opened, custom_ops)
    if samples is None:
        return run_check(opened, target)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return run_check(opened, target, batches)


def diff(
    a: str | Path | Model | onnx.ModelProto, b: str | Path | Model | onnx.ModelProto
) -> Difference:
    """What was added, removed, changed and merged between two ONNX models, whatever the names.

    Raises ``ModelError`` where one of them is no ONNX.
    """
    return run_diff(model_of(a, None), model_of(b, None))


def export(
    model: str | Path | Model | onnx.ModelProto,
    to: str,
    output: str | Path,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> Exported:
    """Write an ONNX model as ``openvino``, ``ort``, ``tensorflow`` or ``tflite``.

    What was written is compared with it on ``samples`` (or random feeds).
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened = model_of(model, custom_ops)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return on(batches, lambda feeds: run_export(opened, to, Path(output), feeds))


def change_opset(
    model: str | Path | Model | onnx.ModelProto,
    to: int,
    *,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
) -> InOpset:
    """Convert an ONNX model up or down to opset ``to``, compared with itself on ``samples``.

    Raises ``InputError`` for an unknown opset, ``ModelError`` where it cannot be converted.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened = model_of(model, custom_ops)
    batches = batches_of(opened.signature, samples, task, processing, limit, seed, opened)
    return on(batches, lambda feeds: run_change_opset(opened, to, feeds))


def optimize(
    model: str | Path | Model | onnx.ModelProto,
    *,
    recipe: str = "default",
    target: str = "portable",
    fix: Mapping[str, int] | None = None,
    samples: object = None,
    task: str | None = None,
    preprocess: str | Processing | None = None,
    tokenizer: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    custom_ops: str | Path | None = None,
    verify: bool = True,
) -> Optimized:
    """Apply a recipe and prove on ``samples`` (or random feeds) that the outputs stay.

    ``recipe`` is passes separated by commas, where ``default`` stands for those that are best for
    the ``target``: ``portable`` (standard operators only) or ``onnxruntime`` (its own as well).
    ``fix`` gives free dimensions their sizes for good, by name. Without ``verify`` nothing is run
    and nothing proven.
    """
    processing = processing_of(preprocess, tokenizer, samples)
    opened, steps = model_of(model, custom_ops), recipe_of(recipe, target)
    fixed = run_fix(opened, fix) if fix else opened
    batches = batches_of(fixed.signature, samples, task, processing, limit, seed, fixed)
    if not verify:
        return run_optimize(opened, None, steps, fixed=fix)
    return on(batches, lambda feeds: run_optimize(opened, feeds, steps, fixed=fix))
