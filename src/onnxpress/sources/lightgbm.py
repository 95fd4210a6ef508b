"""LightGBM: a file of its own text format, a Booster or one of its scikit-learn estimators."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from onnxpress.errors import InputError, MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

FIRST_LINE = b"tree"


class LightGBM(Source):
    """``lightgbm:FILE.txt``, or a trained object."""

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return is_model_file(Path(ref))
        lightgbm = sys.modules.get("lightgbm")  # whoever holds a model has imported it
        return lightgbm is not None and isinstance(ref, (lightgbm.Booster, lightgbm.LGBMModel))

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if options.checkpoint is not None:
            raise InputError("--checkpoint with LightGBM", "the file alone: it has its weights")
        if importlib.util.find_spec("lightgbm") is None:
            raise MissingExtra.of("lightgbm", "lightgbm", "opens LightGBM models")
        if importlib.util.find_spec("onnx_ir") is None:
            raise MissingExtra.of("onnx_ir", "lightgbm", "writes ONNX models")
        from onnxpress.sources._lightgbm.origin import open_origin

        return open_origin(ref)


def is_model_file(path: Path) -> bool:
    """Whether a text file begins as LightGBM's models do."""
    if path.suffix != ".txt" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(64).strip() == FIRST_LINE
