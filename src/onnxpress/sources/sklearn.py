"""scikit-learn: an estimator or pipeline, from a .skops file, a pickle or the live object."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from onnxpress.errors import InputError, MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

SUFFIXES = (".skops", ".joblib", ".pkl", ".pickle")
OTHERS = ("xgboost", "lightgbm")
"""Packages whose estimators are scikit-learn's by type and have sources of their own."""


class Sklearn(Source):
    """``sklearn:FILE.skops``, ``sklearn:FILE.joblib`` (with trust), or a fitted estimator."""

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return str(ref).endswith(SUFFIXES)
        base = sys.modules.get("sklearn.base")  # whoever holds a model has imported it
        if base is None or not isinstance(ref, base.BaseEstimator):
            return False
        return type(ref).__module__.partition(".")[0] not in OTHERS

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if options.checkpoint is not None:
            raise InputError("--checkpoint with scikit-learn", "the file alone: it has its weights")
        for module, package in (("sklearn", "scikit-learn"), ("skl2onnx", "skl2onnx")):
            if importlib.util.find_spec(module) is None:
                raise MissingExtra.of(package, "sklearn", "opens scikit-learn models")
        from onnxpress.sources._sklearn.origin import open_origin

        return open_origin(ref, options)
