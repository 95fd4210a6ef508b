"""A model in another opset, proven equal."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx.version_converter
import onnx_ir as ir
from onnx.version_converter import ConvertError
from onnxscript import version_converter

from onnxpress import registry
from onnxpress.downgrade import to_17, to_19
from onnxpress.engine import Engine, require
from onnxpress.errors import ModelError
from onnxpress.model import MAPPED_BYTES, Model, check
from onnxpress.opsets import Needs, needs
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.values import opset as opset_of
from onnxpress.verbs.verify import Verified, compare

ENGINE = "onnxruntime"
OLDEST_IR = 4
"""Before it, all weights had to be inputs as well."""
NATIVE = range(18, 26)
"""What onnxscript's converter takes, and makes of newer opsets."""


@dataclass(frozen=True)
class InOpset:
    """The model in the opset that was asked for, who converted it, and the proof."""

    model: Model
    before: int
    opset: int
    needs: Needs
    converter: str | None
    verified: Verified | None

    def to_dict(self) -> dict[str, object]:
        return {
            "opset": self.opset,
            "needs": self.needs.to_dict(),
            "before": self.before,
            "converter": self.converter,
            "ir_version": self.model.ir.ir_version,
            "verified": self.verified.to_dict() if self.verified else None,
        }


def change_opset(model: Model, to: int, batches: Callable[[], Iterable[Feeds]]) -> InOpset:
    """``model`` up or down in opset ``to``, compared with itself on ``batches``.

    One that is there gets the opset's own IR version where its is newer: readers of that opset
    may not know it. Raises as ``in_opset`` does.
    """
    wanted, before = needs(to), opset_of(model.ir)
    if before == to and model.ir.ir_version <= max(wanted.ir, OLDEST_IR):
        return InOpset(model, before, to, wanted, None, None)
    converted, name = in_opset(model, to)
    return InOpset(converted, before, to, wanted, name, _compared(model, converted, batches))


def in_opset(model: Model, to: int) -> tuple[Model, str]:
    """``model`` in opset ``to``, valid by onnx's checker, and whose converter made it.

    By onnxscript's converter where it can, otherwise by onnx's. Raises ``InputError`` for an
    unknown opset, ``ModelError`` where no converter makes a valid model, with both reasons.
    """
    wanted, before, reasons = needs(to), opset_of(model.ir), []
    converters = {"onnxscript": _by_onnxscript, "onnx": _by_onnx}
    for name, converter in converters.items() if before != to else [("onnxpress", _as_it_is)]:
        try:
            converted = converter(model, to)
            converted.ir.ir_version = max(wanted.ir, OLDEST_IR)
            with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
                path = Path(folder) / "converted.onnx"
                check(converted.clone().save(path, external_bytes=MAPPED_BYTES))
        except Exception as error:  # noqa: BLE001  # converters raise anything; the reason is kept
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            plain = re.search(r"No (Adapter|Previous Version).*", told)  # after C++ file and line
            reasons.append(f"{name}: {(plain[0] if plain else told)[:200]}")
            continue
        converted.path = None
        ir_version = converted.ir.ir_version
        step = f"opset {before} to {to} by {name}" if before != to else f"IR version {ir_version}"
        converted.journal.add(step, 1)
        return converted, name
    raise ModelError(
        f"opset {before} cannot be converted to {to} ({'; '.join(reasons)})", "another opset"
    )


def _as_it_is(model: Model, to: int) -> Model:
    return model.clone()


def _by_onnxscript(model: Model, to: int) -> Model:
    before = opset_of(model.ir)
    if before not in NATIVE or to not in NATIVE:
        raise ModelError(f"it converts opsets {NATIVE.start} to {NATIVE.stop - 1}")
    clone, level = model.clone(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        version_converter.convert_version(clone.ir, to, fallback=False)
    finally:
        logging.disable(level)
    if opset_of(clone.ir) != to:
        raise ModelError(f"it left the model at opset {opset_of(clone.ir)}")
    return clone


def _by_onnx(model: Model, to: int) -> Model:
    for start, step in ((20, to_19), (18, to_17)):  # it lacks these two steps down
        if opset_of(model.ir) >= start > to:
            model = step(_by_onnxscript_or_onnx(model, start))
    if opset_of(model.ir) == to:
        return model
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model.ir), to)
    except ConvertError as error:
        raise ModelError(str(error) or "it cannot convert an operator") from error
    converted = Model(ir.from_proto(proto), custom_ops=model.custom_ops)
    converted.ir.metadata_props.update(model.ir.metadata_props)
    return converted


def _by_onnxscript_or_onnx(model: Model, to: int) -> Model:
    if opset_of(model.ir) == to:
        return model
    try:
        return _by_onnxscript(model, to)
    except Exception:  # noqa: BLE001  # it raises anything
        return _by_onnx(model, to)


def _compared(a: Model, b: Model, batches: Callable[[], Iterable[Feeds]]) -> Verified:
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        paths = [
            model.clone().save(Path(folder) / f"{name}.onnx")
            for name, model in (("before", a), ("after", b))
        ]
        settings = Settings(ENGINE, custom_ops=a.custom_ops)
        with engine.open(paths[0], settings) as one, engine.open(paths[1], settings) as two:
            return compare(one, two, batches())
