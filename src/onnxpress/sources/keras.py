"""Keras 3: a ``.keras`` or ``.h5`` file, or a live model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from onnxpress.errors import MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

SUFFIXES = (".keras", ".h5", ".hdf5")


class Keras(Source):
    """``keras:FILE.keras``, ``keras:FILE.h5``, or a ``keras.Model``: of any of its three kinds.

    A subclassed model must have been called (or built) once, so that it knows its inputs.
    """

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            return Path(ref).suffix.lower() in SUFFIXES
        model = getattr(sys.modules.get("keras"), "Model", None)  # a model's owner imported it
        return isinstance(model, type) and isinstance(ref, model)

    def open(self, ref: object, options: OpenOptions) -> Origin:
        for package in ("keras", "tensorflow"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra.of(package, "tensorflow", "opens Keras models")
        from onnxpress.sources._tensorflow.keras_origin import open_origin

        return open_origin(ref, options)
