"""How a file is run: engine, provider, threads, precision and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Everything that decides how an engine runs a file.

    ``provider`` is an execution provider of ONNX Runtime with its ``provider_options``, or a
    device of OpenVINO; empty for the CPU. ``threads`` is the number of intra-operator threads
    (None: the engine chooses). ``precision`` is asked of the engine for what the file leaves in
    float32: ``float32`` or ``bfloat16``. ``options`` are the engine's own keys, such as
    ``DYNAMIC_QUANTIZATION_GROUP_SIZE`` (OpenVINO) or ``session.intra_op.allow_spinning``
    (ONNX Runtime), with text values. ``requests`` is how many runs should be under way at once
    where there is work for several. ``custom_ops`` is a shared library with operators that the
    file needs; it is this machine's and goes into no dict, so that no bundle can name one.
    """

    engine: str
    provider: str = ""
    threads: int | None = None
    precision: str = "float32"
    options: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    requests: int = 1
    custom_ops: Path | None = None

    def with_threads(self, threads: int | None) -> Settings:
        return replace(self, threads=threads)

    def changed(self, changes: Mapping[str, str]) -> Settings:
        """With other ``threads``, ``requests`` or ``precision``, or with engine options added."""
        options = {
            k: v for k, v in changes.items() if k not in ("threads", "requests", "precision")
        }
        return replace(
            self,
            threads=int(changes.get("threads", self.threads or 0)) or None,
            requests=int(changes.get("requests", self.requests)),
            precision=changes.get("precision", self.precision),
            options={**self.options, **options},
        )

    def with_custom_ops(self, library: Path | None) -> Settings:
        return replace(self, custom_ops=library)

    def to_dict(self) -> dict[str, object]:
        return {
            "engine": self.engine,
            "provider": self.provider,
            "threads": self.threads,
            "precision": self.precision,
            "options": dict(self.options),
            "provider_options": dict(self.provider_options),
            "requests": self.requests,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Settings:
        """What ``to_dict`` gave. Raises ``KeyError`` or ``TypeError`` for anything else."""
        threads, requests = data.get("threads"), data.get("requests", 1)
        if (
            not isinstance(threads, int | None)
            or not isinstance(requests, int)
            or isinstance(threads, bool)
        ):
            raise TypeError(f"settings have threads {threads!r} and requests {requests!r}")
        return cls(
            str(data["engine"]),
            str(data.get("provider") or ""),
            threads,
            str(data.get("precision") or "float32"),
            _texts(data.get("options") or {}),
            _texts(data.get("provider_options") or {}),
            max(requests, 1),
        )


def _texts(options: object) -> dict[str, str]:
    if not isinstance(options, Mapping):
        raise TypeError(f"settings have options {options!r}")
    return {str(key): str(value) for key, value in options.items()}
