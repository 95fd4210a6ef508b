"""TFLite (LiteRT): one flatbuffer in float32, for phones and small boards."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxpress.engine import Session
from onnxpress.errors import EngineError
from onnxpress.exporter import Exporter
from onnxpress.exporters import _onnx2tf
from onnxpress.exporters._onnx2tf.noise import kept_away
from onnxpress.signature import Feeds, Signature


class TfLite(Exporter):
    """Names, layouts and free dimensions of the file's one signature are the ONNX model's."""

    suffix = ".tflite"

    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        _onnx2tf.require()
        _onnx2tf.convert(model, output, "tflite")
        return (output,)

    def open(self, written: Path, signature: Signature) -> Session:
        return _Interpreted(written, signature)


class _Interpreted(Session):
    """LiteRT's interpreter, one call at a time; it makes room for new sizes by itself."""

    def __init__(self, written: Path, signature: Signature) -> None:
        super().__init__()
        self.signature, self._one_call = signature, threading.Lock()
        try:
            with kept_away():
                from ai_edge_litert.interpreter import Interpreter

                interpreter = Interpreter(model_path=str(written))
                self._runner = interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT refuses the file ({_line(error)})") from error
        shapes = {
            name: tuple(detail["shape_signature"])
            for name, detail in self._runner.get_input_details().items()
        }
        _onnx2tf.require_same(signature, shapes, self._runner.get_output_details())

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with self._one_call:
            try:
                return {name: np.array(value) for name, value in self._runner(**feeds).items()}
            except (ValueError, RuntimeError) as error:
                raise EngineError(f"LiteRT fails ({_line(error)})") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
