"""Opsets and IR versions that an ONNX Runtime does not know yet, or no longer guarantees."""

from __future__ import annotations

import shlex
from typing import ClassVar

from onnxpress.custom_ops import FLAG
from onnxpress.finding import ANYWHERE, Check, Finding, Level, Target, file_of, output_of
from onnxpress.model import Model
from onnxpress.opsets import GUARANTEED, NEEDS, newest, newest_ir, newest_ml
from onnxpress.values import opset

ML = "ai.onnx.ml"


class OpsetSupport(Check):
    """Compares the model's opsets and IR version with what the target's ONNX Runtime knows."""

    reads_data: ClassVar[bool] = False

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        if not target.runtime:
            return []
        runtime, found = f"ONNX Runtime {target.runtime}", opset(model.ir)
        known, known_ir = newest(target.runtime), newest_ir(target.runtime)
        told = []
        if found > known:
            what = f"{runtime} knows opsets up to {known}, the model has {found}{_since(found)}"
            told.append(_finding("error", f"opset {found}", what, _converts(model, known, target)))
        elif 0 < found < GUARANTEED:
            what = f"ONNX Runtime guarantees opsets from {GUARANTEED} on, the model has {found}"
            told.append(
                _finding("warning", f"opset {found}", what, _converts(model, known, target))
            )
        version = model.ir.ir_version
        if version > known_ir:
            what = f"{runtime} reads IR versions up to {known_ir}, the file has {version}"
            fix = _converts(model, min(found or known, known), target)
            told.append(_finding("error", f"IR version {version}", what, fix))
        trees, known_ml = model.ir.opset_imports.get(ML, 0), newest_ml(target.runtime)
        if trees > known_ml:
            what = f"{runtime} knows {ML} up to {known_ml}, the model has {trees}"
            fix = f"export it again with opset {known_ml} of {ML}, or use a newer ONNX Runtime"
            told.append(_finding("error", f"{ML} {trees}", what, fix))
        return told


def _first(number: int) -> str | None:
    """The first ONNX Runtime that knows an opset."""
    return NEEDS[number].onnxruntime if number in NEEDS else None


def _since(number: int) -> str:
    first = _first(number)
    return f" ({first} is the first to know it)" if first else " (no release knows it yet)"


def _converts(model: Model, to: int, target: Target) -> str:
    """A command where one does it. Without, there is only another export, or a newer runtime.

    What no ONNX Runtime opens cannot be converted with proof.
    """
    released = max(number for number, needs in NEEDS.items() if needs.onnxruntime)
    unopened = opset(model.ir) > released or model.ir.ir_version > NEEDS[released].ir
    if not (unopened or target.no_way_down):
        command = f"onnxpress opset {file_of(model)} --to {to} -o {output_of(model, f'opset{to}')}"
        if model.custom_ops:
            return f"{command} {FLAG} {shlex.quote(str(model.custom_ops))}"
        if model.custom_operators:
            return f"name its library in the place of LIB.so: {command} {FLAG} LIB.so"
        return command
    told = [
        target.no_way_down or "no ONNX Runtime opens it, so no conversion of it can be proven",
        "export it from its source: onnxpress convert SOURCE "
        f"--opset {to} -o {output_of(model, f'opset{to}')}",
    ]
    first = _first(opset(model.ir))
    if first and not unopened:
        told.append(f"or run it with ONNX Runtime {first} or newer")
    return "\n".join(told)


def _finding(level: Level, where: str, what: str, fix: str) -> Finding:
    return Finding("opset_support", level, where, "", what, fix)
