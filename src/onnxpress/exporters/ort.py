"""ONNX Runtime's own format, which its builds for phones read."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from onnxpress.errors import EngineError, MissingExtra
from onnxpress.exporter import Exporter


class Ort(Exporter):
    """The graph after ONNX Runtime's rewrites that hold on every CPU (its extended level)."""

    suffix = ".ort"
    engine = "onnxruntime"

    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtra.of("onnxruntime", "onnxruntime", "writes ORT files")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(output)
        options.add_session_config_entry("session.save_model_format", "ORT")
        try:
            onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            lacking = re.search(r"(\S+)\(\S*\) is not a registered function/op", str(error))
            if lacking is not None:
                raise EngineError(
                    f"operator {lacking[1]} is none of ONNX Runtime's own",
                    "standard operators: the ORT format is written without custom ones",
                ) from error
            told = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise EngineError(f"onnxruntime cannot take the model ({told})") from error
        return (output,)
