"""The contract of formats that an ONNX model goes out to."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar

from onnxpress.engine import Session
from onnxpress.signature import Signature


class Exporter(abc.ABC):
    """Writes one format.

    ``suffix`` is its main file's, empty where the format is a folder. ``engine`` runs what was
    written; where it is empty, ``open`` does.
    """

    api_version: ClassVar[int] = 1
    suffix: ClassVar[str]
    engine: ClassVar[str] = ""

    @abc.abstractmethod
    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        """Write the ONNX file ``model`` as ``output`` and return all files, ``output`` first.

        ``output`` ends in ``suffix``; its folder exists. Where the format is a folder, ``output``
        is one to make, and its files are returned. Raises ``MissingExtra`` where a package is
        missing, ``EngineError`` where the model has no form in this format.
        """

    def open(self, written: Path, signature: Signature) -> Session:
        """A session on what was written, with the ONNX model's ``signature``.

        Raises ``EngineError`` where it does not load, or differs from ``signature``.
        """
        raise NotImplementedError(f"{type(self).__name__} names neither an engine nor a session")
