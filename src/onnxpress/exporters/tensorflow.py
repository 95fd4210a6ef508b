"""TensorFlow's SavedModel: a folder with one signature, ``serving_default``, in float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpress.engine import Session
from onnxpress.errors import EngineError
from onnxpress.exporter import Exporter
from onnxpress.exporters import _onnx2tf
from onnxpress.exporters._onnx2tf.noise import kept_away
from onnxpress.signature import Feeds, Signature


class TensorFlow(Exporter):
    """Names, layouts and free dimensions of the signature are the ONNX model's.

    But for inputs such as ``input.1``, which TensorFlow spells as an argument, ``input_1``.
    """

    suffix = ""

    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        _onnx2tf.require("tensorflow", "tf_keras")
        _onnx2tf.convert(model, output, "tensorflow")
        return tuple(sorted(path for path in output.rglob("*") if path.is_file()))

    def open(self, written: Path, signature: Signature) -> Session:
        return _Loaded(written, signature)


class _Loaded(Session):
    """The signature of a SavedModel, called in this process."""

    def __init__(self, written: Path, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        with kept_away():
            import tensorflow

            # The signature's function does not keep what it computes with alive.
            self._alive: Any = tensorflow.saved_model.load(str(written))
        self._call: Any = self._alive.signatures["serving_default"]
        spelled = {_spelled(spec.name): spec.name for spec in signature.inputs}
        shapes = {
            spelled.get(name, name): tuple(-1 if size is None else size for size in spec.shape)
            for name, spec in self._call.structured_input_signature[1].items()
        }
        _onnx2tf.require_same(signature, shapes, self._call.structured_outputs)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        import tensorflow

        try:
            outputs = self._call(**{_spelled(k): tensorflow.constant(v) for k, v in feeds.items()})
        except tensorflow.errors.OpError as error:
            lines = [line for line in str(error.message).splitlines() if line.strip()]
            told = lines[0][:200] if lines else type(error).__name__
            raise EngineError(f"TensorFlow fails ({told})") from error
        return {name: value.numpy() for name, value in outputs.items()}


def _spelled(name: str) -> str:
    """An input's name as TensorFlow has it in a signature: that of a Python argument."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)
