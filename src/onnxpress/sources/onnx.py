"""ONNX files: the model is its own reference."""

from __future__ import annotations

import hashlib
from pathlib import Path

from onnxpress import registry
from onnxpress.engine import Engine, Session, require
from onnxpress.errors import InputError, SourceError
from onnxpress.model import external_data_files, load
from onnxpress.settings import Settings
from onnxpress.source import Exported, ExportOptions, OpenOptions, Origin, Source

REFERENCE_ENGINES = ("onnxruntime", "openvino")


class Onnx(Source):
    """``onnx:FILE`` or a path that ends in ``.onnx``."""

    def accepts(self, ref: object) -> bool:
        return isinstance(ref, str | Path) and str(ref).endswith(".onnx")

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if options.checkpoint is not None:
            raise InputError("--checkpoint with an ONNX file", "the file alone: it has its weights")
        if options.inputs:
            raise InputError("--input with an ONNX file", "the file alone: it says what it takes")
        return OnnxOrigin(Path(str(ref)))


class OnnxOrigin(Origin):
    """An ONNX file, run in float32 by the first of ONNX Runtime and OpenVINO that is installed."""

    exact_fingerprint = True
    kind = "onnx"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = load(path)
        available = (
            name
            for name in REFERENCE_ENGINES
            if registry.create(Engine, "engines", name).available().ok
        )
        self._engine = next(available, REFERENCE_ENGINES[0])
        self.baseline = f"{self._engine} on the original file"

    def session(self, threads: int | None = None) -> Session:
        engine = registry.create(Engine, "engines", self._engine)
        require(engine, self._engine)
        return engine.open(
            self._path, Settings(self._engine, threads=threads, custom_ops=self.custom_ops)
        )

    def export(self, options: ExportOptions) -> Exported:
        """The file itself. Raises ``SourceError`` for options that would change it."""
        if options.opset is not None or options.shapes or options.static:
            raise SourceError(
                f"{self._path} is ONNX already",
                "no --opset, --shape or --static here",
                "use 'onnxpress opset' or 'onnxpress optimize --fix'",
            )
        return Exported(self._model.clone(), "none")

    def fingerprint(self) -> str:
        """SHA-256 of the file and its external data."""
        digest = hashlib.sha256()
        for path in (self._path, *external_data_files(self._model)):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()
