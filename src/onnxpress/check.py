"""The contract of what looks at a model and reports findings."""

from __future__ import annotations

import abc
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from onnxpress.model import Model

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing worth saying: which ``check`` found it, ``where`` (node or tensor names), what."""

    check: str
    level: Level
    where: str
    op: str
    what: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


class Check(abc.ABC):
    """Reads a model, changes nothing."""

    api_version: ClassVar[int] = 1

    @abc.abstractmethod
    def findings(self, model: Model) -> list[Finding]:
        """What there is to say, in graph order."""
