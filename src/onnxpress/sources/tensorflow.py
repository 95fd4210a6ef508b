"""TensorFlow: a SavedModel folder, or a live ``tf.function``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from onnxpress.errors import MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

GRAPH_FILE = "saved_model.pb"


class Tensorflow(Source):
    """``tensorflow:FOLDER``, ``tensorflow:FOLDER#SIGNATURE``, or a ``tf.function``.

    The signature is ``serving_default`` where none is named. A ``tf.function`` needs an input
    signature (or ``inputs``); a concrete function has one.
    """

    def accepts(self, ref: object) -> bool:
        if isinstance(ref, str | Path):
            folder, _, _ = str(ref).partition("#")
            return bool(folder) and (Path(folder) / GRAPH_FILE).is_file()
        types = getattr(sys.modules.get("tensorflow"), "types", None)
        return types is not None and isinstance(
            ref, types.experimental.PolymorphicFunction | types.experimental.ConcreteFunction
        )

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if importlib.util.find_spec("tensorflow") is None:
            raise MissingExtra.of("tensorflow", "tensorflow", "opens TensorFlow models")
        from onnxpress.sources._tensorflow.tensorflow_origin import open_origin

        return open_origin(ref, options)
