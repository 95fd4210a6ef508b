"""Fingerprints: hashes of everything that decides a model's outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import hashlib as _hashlib

    Digest = _hashlib._Hash

BLOCK = 1 << 20


def of_files(paths: Iterable[Path], more: str, _: object = None) -> str:
    """SHA-256 of the files' bytes and names below their common use, ``more`` and the version."""
    digest = hashlib.sha256(f"{more}\n{_versions()}".encode())
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def of_arrays(digest: Digest, arrays: Mapping[str, np.ndarray]) -> str:
    """``digest`` with named arrays and the versions."""
    digest.update(_versions().encode())
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        digest.update(f"{name} {flat.dtype} {flat.shape}".encode())
        digest.update(flat.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _versions() -> str:
    """What runs the model, without importing it."""
    found = []
    for name in ("tensorflow", "tensorflow-cpu", "keras"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
