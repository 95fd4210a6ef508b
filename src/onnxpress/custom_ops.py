"""Operators that ONNX does not define: a library of the user's has them, or a package."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxpress.errors import BundleError, InputError

FLAG = "--custom-ops"
PACKAGES = {"ai.onnx.contrib": "onnxruntime_extensions"}
"""Domain of operators → the Python package whose library has them."""


def check_library(path: str | Path | None) -> Path | None:
    """The absolute path of a shared library. Raises ``InputError`` where there is no such file."""
    if path is None:
        return None
    found = Path(path).absolute()  # a bare name would be looked for in the system's folders
    if not found.is_file():
        raise InputError(f"{FLAG} {path} does not exist", "a shared library (.so)")
    return found


def sha256(path: Path) -> str:
    """Of the file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_of(operators: Sequence[str]) -> str | None:
    """The package that has one of ``operators`` (``domain::Op``), where there is one."""
    domains = [operator.partition("::")[0] for operator in operators]
    return next((PACKAGES[domain] for domain in domains if domain in PACKAGES), None)


@dataclass(frozen=True)
class NeededOps:
    """What a bundle needs beside its engine, by name: nothing of it is in the bundle.

    ``operators`` are ``domain::Op`` each. ``file`` and ``sha256`` are of the shared library that
    the user gave, empty for none; ``package`` with ``version`` is the Python package that was used.
    """

    operators: tuple[str, ...]
    file: str = ""
    sha256: str = ""
    package: str = ""
    version: str = ""

    @classmethod
    def of(cls, operators: tuple[str, ...], library: Path | None) -> NeededOps | None:
        """For a model with these operators that runs with ``library``; None where it has none."""
        if not operators:
            return None
        package = package_of(operators) or ""
        version = importlib.metadata.version(package) if package else ""
        if library is None:
            return cls(operators, package=package, version=version)
        return cls(operators, library.name, sha256(library), package, version)

    def check(self, bundle: Path, library: Path | None) -> None:
        """Raise ``BundleError`` where ``library`` is not the one that the bundle needs."""
        if not self.file:
            return
        expected = f"{self.file} with SHA-256 {self.sha256[:12]}…"
        if library is None:
            raise BundleError(
                f"{bundle} has the operator {self.operators[0]}, which is in a library of its own",
                expected,
                f"give {FLAG} {self.file}",
            )
        found = sha256(library)
        if found != self.sha256:
            raise BundleError(
                f"{FLAG} {library.name} has SHA-256 {found[:12]}…",
                expected,
                "give the library that the bundle was pressed with, or press again",
            )

    def to_dict(self) -> dict[str, object]:
        return {
            "operators": list(self.operators),
            "file": self.file,
            "sha256": self.sha256,
            "package": self.package,
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> NeededOps:
        """What ``to_dict`` gave. Raises ``TypeError`` for anything else."""
        operators = data.get("operators")
        texts = [data.get(name, "") for name in ("file", "sha256", "package", "version")]
        if not isinstance(operators, list) or not all(isinstance(t, str) for t in texts):
            raise TypeError(f"the needed operators are {data!r}")
        return cls(tuple(map(str, operators)), *map(str, texts))
