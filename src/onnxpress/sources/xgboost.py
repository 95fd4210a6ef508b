"""XGBoost: a file of its own formats, a Booster or one of its scikit-learn estimators."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from onnxpress.errors import InputError, MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

SUFFIXES = (".ubj", ".json")
PROBED_BYTES = 4096


class XGBoost(Source):
    """``xgboost:FILE.ubj``, ``xgboost:FILE.json``, or a trained object."""

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return str(ref).endswith(".ubj") or _is_its_json(Path(ref))
        xgboost = sys.modules.get("xgboost")  # whoever holds a model has imported it
        return xgboost is not None and isinstance(ref, (xgboost.Booster, xgboost.XGBModel))

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if options.checkpoint is not None:
            raise InputError("--checkpoint with XGBoost", "the file alone: it has its weights")
        if importlib.util.find_spec("xgboost") is None:
            raise MissingExtra.of("xgboost", "xgboost", "opens XGBoost models")
        if importlib.util.find_spec("onnx_ir") is None:
            raise MissingExtra.of("onnx_ir", "xgboost", "writes ONNX models")
        from onnxpress.sources._xgboost.origin import open_origin

        return open_origin(ref)


def _is_its_json(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"learner"' in file.read(PROBED_BYTES)
