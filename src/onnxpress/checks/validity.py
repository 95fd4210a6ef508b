"""What onnx's own checker and its strict shape inference refuse."""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxpress.errors import ModelError
from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of
from onnxpress.model import MAPPED_BYTES, Model, check


class Validity(Check):
    """The first fault that ``onnx.checker.check_model(full_check=True)`` names."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        try:
            if model.path is not None:
                check(model.path)
            else:
                with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
                    check(model.clone().save(Path(folder) / "model.onnx", MAPPED_BYTES))
        except ModelError as error:
            fix = "export it again; a converter that writes this is worth a report"
            return [Finding("validity", "error", file_of(model), "", error.found, fix)]
        return []
