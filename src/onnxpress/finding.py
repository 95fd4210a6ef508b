"""The contract of what looks at a model and reports findings."""

from __future__ import annotations

import abc
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from onnxpress.calibrator import Range
from onnxpress.model import Model

Level = Literal["error", "warning", "info"]
X86, ARM = "x86_64", "arm64"


@dataclass(frozen=True)
class Finding:
    """One thing worth saying: which ``check`` found it, ``where`` (node or tensor names), what.

    ``op`` is the node's operator, empty for what is no node. ``fix`` is a command to paste, or
    what to do where no command does it; another way is another line of it.
    """

    check: str
    level: Level
    where: str
    op: str
    what: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Kernels:
    """What the installed ONNX Runtime makes of the model when it opens it.

    ``missing`` maps the name of a node without a kernel to the types that it has none for.
    ``casts`` counts the nodes that it adds, as float16 is computed in float32. ``refusal`` is its
    reason not to open the model at all, empty where it does. ``assigned`` maps a node's name to
    the provider that runs it, where a provider was asked for.
    """

    missing: Mapping[str, str] = field(default_factory=dict)
    casts: int = 0
    refusal: str = ""
    assigned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Where a model shall run, and what was observed of it there.

    ``runtime`` is ONNX Runtime's version, empty where none is installed or asked for; ``asked``
    says that the user named it. ``provider`` is empty unless the user named one, as are its
    ``options``. ``isa`` is None where the instruction sets are not known. ``ranges`` are of
    activations, on the user's samples. ``kernels`` is None where ONNX Runtime was not asked: it
    is not installed, or not in the version that is meant.
    """

    runtime: str = ""
    asked: bool = False
    provider: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""
    isa: tuple[str, ...] | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    kernels: Kernels | None = None
    no_way_down: str = ""


ANYWHERE = Target()
"""Nothing is known of where the model shall run."""


class Check(abc.ABC):
    """Reads a model, changes nothing.

    ``reads_data`` is False for a check that works without the values of weights: only such a
    check is asked where their file is missing or must not be read.
    """

    api_version: ClassVar[int] = 1
    reads_data: ClassVar[bool] = True

    @abc.abstractmethod
    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        """What there is to say, in graph order. Functions of the model are inlined before."""


def file_of(model: Model) -> str:
    """The model's file as a shell takes it; ``model.onnx`` for one that is in memory only."""
    return shlex.quote(str(model.path or "model.onnx"))


def output_of(model: Model, suffix: str) -> str:
    """A file in the folder where one is, named after the model: ``net-fixed.onnx``."""
    return shlex.quote(f"{model.path.stem if model.path else 'model'}-{suffix}.onnx")
