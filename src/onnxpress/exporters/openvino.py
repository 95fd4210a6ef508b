"""OpenVINO's own format: a graph in .xml and its weights in .bin."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from onnxpress.errors import EngineError, MissingExtra
from onnxpress.exporter import Exporter


class OpenVinoIr(Exporter):
    """Weights keep their types: nothing is rounded to float16."""

    suffix = ".xml"
    engine = "openvino"

    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtra.of("openvino", "openvino", "writes OpenVINO's format")
        import openvino

        try:
            read = openvino.Core().read_model(model)
            openvino.save_model(read, output, compress_to_fp16=False)
        except Exception as error:  # its errors share no base class
            told = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise EngineError(f"openvino cannot take the model ({told})") from error
        return output, output.with_suffix(".bin")
