"""Any trained model as an ONNX model that is proven equal."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxpress import registry
from onnxpress.engine import Engine, Session, require
from onnxpress.errors import EngineError, ModelError, OnnxpressError, SourceError
from onnxpress.model import MAPPED_BYTES, Model, check
from onnxpress.opsets import needs
from onnxpress.settings import Settings
from onnxpress.signature import Feeds, Signature
from onnxpress.source import Exported, ExportOptions, Origin
from onnxpress.values import opset as opset_of
from onnxpress.verbs.feeds import free_size, random_feeds, seeds
from onnxpress.verbs.opset import in_opset
from onnxpress.verbs.verify import Verified, compare

BATCHES = (1, 2, 5)
PROVING_ENGINE = "onnxruntime"

MakeFeeds = Callable[[Signature], Iterable[Feeds]]
_Tries = Callable[[Signature, list[str]], Iterable[Feeds]]
"""Feeds, and the names of dimensions that turn out to take one size only."""


@dataclass(frozen=True)
class Converted:
    """The model, who made it, and the proof (None where it was not asked for).

    ``untried`` are free dimensions of which the original itself took one size only.
    """

    model: Model
    exporter: str
    fallback_reason: str | None
    verified: Verified | None
    untried: tuple[str, ...] = ()

    @property
    def opset(self) -> int:
        return self.model.ir.opset_imports.get("", 0)

    def to_dict(self) -> dict[str, object]:
        signature = self.model.signature.to_dict()
        return {
            "exporter": self.exporter,
            "fallback_reason": self.fallback_reason,
            "opset": self.opset,
            "ir_version": self.model.ir.ir_version,
            **signature,
            "size_bytes": self.model.size_bytes,
            "verified": self.verified.to_dict() if self.verified else None,
            "untried": list(self.untried),
        }


def convert(
    origin: Origin,
    options: ExportOptions | None = None,
    *,
    verify: bool = True,
    batches: MakeFeeds | None = None,
) -> Converted:
    """Export ``origin`` and compare with it.

    An opset that the exporter does not write is made by conversion. ``batches`` gives the feeds to
    compare on. Without it they are random, of the ranges that the
    origin's own example has: batches of 1, 2 and 5 rows, two other sizes of each other free
    dimension that the origin takes, and what the origin itself finds worth probing. Where the
    first exporter's model differs, is not valid or does not run, the other one is tried. Raises
    ``InputError`` for an opset that there is not, ``SourceError`` where no exporter can convert,
    ``ModelError`` where what they make is not valid ONNX or not to be had in the opset that was
    asked for, ``EngineError`` where it cannot be opened.
    """
    options = options or ExportOptions()
    if options.opset is not None:
        needs(options.opset)
    feeds: _Tries | None = None
    if verify:
        feeds = (
            (lambda signature, untried: sweep(signature, origin, untried))
            if batches is None
            else (lambda signature, _: batches(signature))
        )
    exported = origin.export(options)
    first: Converted | OnnxpressError
    try:
        first = _finished(origin, exported, options, feeds)
        mismatch = first.verified and first.verified.first_mismatch
        why = f"the model differs ({mismatch})" if mismatch else ""
    except (EngineError, ModelError) as error:
        first, why = error, str(error)
    if why and options.exporter == "auto" and exported.exporter == "dynamo":
        second = _by_torchscript(origin, options, feeds, why)
        if second is not None:
            return _as_asked(second, options)
    if isinstance(first, OnnxpressError):
        raise first
    return _as_asked(first, options)


def _by_torchscript(
    origin: Origin, options: ExportOptions, feeds: _Tries | None, why: str
) -> Converted | None:
    """The second exporter's model, where it is proven equal; ``why`` tells of the first's."""
    try:
        exported = origin.export(replace(options, exporter="torchscript"))
        second = _finished(origin, exported, options, feeds)
    except (SourceError, EngineError, ModelError):
        return None
    if second.verified is not None and not second.verified.ok:
        return None
    reason = f"dynamo: {why}"
    second.model.metadata["onnxpress.fallback_reason"] = reason
    return replace(second, fallback_reason=reason)


def _finished(
    origin: Origin, exported: Exported, options: ExportOptions, feeds: _Tries | None
) -> Converted:
    """What was exported, in the opset that was asked for, and the proof."""
    model = exported.model
    model.custom_ops = origin.custom_ops
    if options.opset not in (None, opset_of(model.ir)):
        model, _ = in_opset(model, options.opset)
    untried: list[str] = []
    verified = prove(origin, model, lambda signature: feeds(signature, untried)) if feeds else None
    return Converted(model, exported.exporter, exported.fallback_reason, verified, tuple(untried))


def _as_asked(result: Converted, options: ExportOptions) -> Converted:
    """Raises ``SourceError`` where a dimension that was asked free takes one size only."""
    proven = result.verified is None or result.verified.ok
    for name in result.untried if proven else ():
        if any(name in dims for dims in options.shapes.values()):
            raise SourceError(
                f"the original takes no other size of '{name}' than the example's",
                "dimensions that it leaves free",
                "give its number, or name the dimensions of other inputs that go with it",
            )
    return result


def prove(origin: Origin, model: Model, batches: MakeFeeds) -> Verified:
    """Compare ``model`` in ONNX Runtime, from a saved file, with the origin's own session.

    Raises ``ModelError`` where onnx's checker or its shape inference finds a fault in the file.
    """
    engine = registry.create(Engine, "engines", PROVING_ENGINE)
    require(engine, PROVING_ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        # Weights in a file of their own are mapped, not read, by whoever opens the model.
        path = model.clone().save(Path(folder) / "converted.onnx", external_bytes=MAPPED_BYTES)
        check(path)
        settings = Settings(PROVING_ENGINE, custom_ops=model.custom_ops)
        with (
            engine.open(path, settings) as candidate,
            origin.session() as reference,
        ):
            return compare(reference, candidate, batches(model.signature))


def sweep(
    signature: Signature, origin: Origin, untried: list[str] | None = None
) -> Iterable[Feeds]:
    """Random feeds of several batch and other sizes, then the origin's probes.

    One batch has small integers only: lengths, for one, whose largest is not the example's. Of
    each free dimension two other sizes are found that the origin takes: half and one and a half
    times the usual one, twice, or one more; or one, with all others twice as large too. Names of
    dimensions of which the origin takes one size only are added to ``untried``.
    """
    batches = BATCHES if any(spec.dynamic_batch for spec in signature.inputs) else (1,)
    for batch, seed in seeds(signature, batches):
        yield random_feeds(signature, batch, seed, origin.example, drawn=origin.drawn)
    rows, example, drawn = batches[-2:][0], origin.example, origin.drawn
    with origin.session() as session:  # one for all tries: some take long to open
        lower = _lower(example, drawn)
        if lower is not None:
            feeds = random_feeds(signature, rows, 0, lower, drawn=drawn)
            if _runs(session, feeds):
                yield feeds
        usual = _usual_sizes(signature, example)
        for name, size in usual.items():
            half, ran = max(1, size // 2), 0
            alone = [{name: other} for other in (half, size + half, 2 * size, size + 1)]
            together = {each: 2 * usual[each] for each in usual}
            for seed, sizes in enumerate([*alone, together]):
                if ran > 1 or (ran and sizes is together):
                    break
                feeds = random_feeds(signature, rows, seed, example, sizes, drawn)
                if _runs(session, feeds):
                    ran += 1
                    yield feeds
            if not ran and untried is not None:
                untried.append(name)
    yield from origin.probes(signature)


def _runs(session: Session, feeds: Feeds) -> bool:
    """Whether the origin takes these sizes: not every model takes all that its axes allow."""
    with contextlib.suppress(OnnxpressError):
        session.run(feeds)
        return True
    return False


def _lower(example: Feeds | None, drawn: Collection[str]) -> Feeds | None:
    """``example`` with the lower half of its integers' ranges only; None where it has no ranges.

    The values of inputs in ``drawn`` are no ranges.
    """
    lower = {
        name: np.minimum(array, (array.min() + array.max()) // 2)
        for name, array in (example or {}).items()
        if name not in drawn
        and array.dtype.kind in "iu"
        and array.size
        and array.max() - array.min() > 1
    }
    return {**example, **lower} if example and lower else None


def _usual_sizes(signature: Signature, example: Feeds | None) -> dict[str, int]:
    """The example's size of each named free dimension but the batch."""
    usual: dict[str, int] = {}
    for spec in signature.inputs:
        known = None if example is None else example.get(spec.name)
        for axis, dim in enumerate(spec.shape or ()):
            if axis > 0 and isinstance(dim, str) and dim != "?":
                usual.setdefault(dim, free_size(spec) if known is None else known.shape[axis])
    batch = {spec.shape[0] for spec in signature.inputs if spec.shape}
    return {name: size for name, size in usual.items() if name not in batch}
