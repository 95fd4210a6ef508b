"""The contract of formats that an ONNX model goes out to."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar


class Exporter(abc.ABC):
    """Writes one format. ``suffix`` is its main file's, ``engine`` runs what was written."""

    api_version: ClassVar[int] = 1
    suffix: ClassVar[str]
    engine: ClassVar[str]

    @abc.abstractmethod
    def write(self, model: Path, output: Path) -> tuple[Path, ...]:
        """Write the ONNX file ``model`` as ``output`` and return all files, ``output`` first.

        ``output`` ends in ``suffix``; its folder exists. Raises ``MissingExtra`` where a package
        is missing, ``EngineError`` where the model has no form in this format.
        """
