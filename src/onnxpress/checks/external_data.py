"""Weights in files beside the model: missing, short, or elsewhere on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from onnxpress.external_data import external_tensors, fault
from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of
from onnxpress.model import Model


class ExternalData(Check):
    """The rules of ONNX's "External Data" (CVE-2022-25882); no file is read."""

    reads_data: ClassVar[bool] = False

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        if model.path is None:
            return []
        told: list[Finding] = []
        for tensor in external_tensors(model.ir):
            error = fault(tensor, model.path)
            if error is not None:
                what = error.found.removeprefix(f"{model.path}: ")
                name = Path(str(tensor.location)).name
                fix = f"put {name} beside {file_of(model)} and name it there, or export it again"
                told.append(
                    Finding("external_data", "error", str(tensor.name), "", what, error.fix or fix)
                )
        return told
