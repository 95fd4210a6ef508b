"""How a file is run: engine, provider, threads, precision and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxpress.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Everything that decides how an engine runs a file.

    ``threads`` is the number of intra-operator threads (None: the engine chooses).
    ``precision`` is asked of the engine for what the file leaves in float32: ``float32`` or
    ``bfloat16``. ``options`` are the engine's own keys, such as
    ``DYNAMIC_QUANTIZATION_GROUP_SIZE`` (OpenVINO) or ``session.intra_op.allow_spinning``
    (ONNX Runtime), with text values. ``custom_ops`` is a shared library with operators that the
    file needs; it is this machine's and goes into no dict, so that no bundle can name one.
    """

    engine: str
    provider: str = ""
    threads: int | None = None
    precision: str = "float32"
    options: Mapping[str, str] = field(default_factory=dict)
    custom_ops: Path | None = None

    def with_threads(self, threads: int | None) -> Settings:
        return replace(self, threads=threads)

    def with_custom_ops(self, library: Path | None) -> Settings:
        return replace(self, custom_ops=library)

    def to_dict(self) -> dict[str, object]:
        return {
            "engine": self.engine,
            "provider": self.provider,
            "threads": self.threads,
            "precision": self.precision,
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Settings:
        """What ``to_dict`` gave. Raises ``KeyError`` or ``TypeError`` for anything else."""
        options, threads = data.get("options") or {}, data.get("threads")
        if not isinstance(options, Mapping) or not isinstance(threads, int | None):
            raise TypeError(f"settings have options {options!r} and threads {threads!r}")
        return cls(
            str(data["engine"]),
            str(data.get("provider") or ""),
            threads,
            str(data.get("precision") or "float32"),
            {str(key): str(value) for key, value in options.items()},
        )


def parse_options(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("key=value", …)`` as a dict. Raises ``InputError`` for a pair without ``=``."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"--session {pair}", "KEY=VALUE")
        options[key.strip()] = value.strip()
    return options
