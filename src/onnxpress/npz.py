"""Samples from an ``.npz``: rows read out of the archive, so that no array is whole in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.samples import Label, Record, Samples, stamp

LABELS = "labels"


def arrays(path: Path) -> Samples:
    """One array for each input, and ``labels`` where there are some; a record is a row of each.

    A row of ``labels`` is a number, or an array such as a mask.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    with _readable(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(f"{name}.npy") as file:
                shapes[name] = _header(file, path, name)[0]
    counts = {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: {told or 'no arrays'}", "arrays of one length")
    inputs = [name for name in shapes if name != LABELS]
    if not inputs:
        raise SamplesError(f"{path} holds only labels", "one array for each input")

    def stream() -> Iterator[Record]:
        with _readable(path), zipfile.ZipFile(path) as archive:
            rows = {name: _rows(archive, path, name) for name in shapes}
            for number in range(counts[inputs[0]]):
                row = {name: next(rows[name]) for name in inputs}
                answer = _label(next(rows[LABELS])) if LABELS in rows else None
                yield Record(row, answer, f"row {number}")

    return Samples(stream, "tensors", path.name, identity=stamp(path))


def _label(row: np.ndarray) -> Label:
    return cast("Label", row.item()) if row.size == 1 and row.ndim <= 1 else row


def _header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    from numpy.lib import format as npy

    major, _ = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if dtype.hasobject or (fortran and len(shape) > 1):
        why = "objects" if dtype.hasobject else "columns first (Fortran order)"
        raise SamplesError(f"{path}: array '{name}' holds {why}", "plain numbers, rows first")
    return shape, dtype


def _rows(archive: zipfile.ZipFile, path: Path, name: str) -> Iterator[np.ndarray]:
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _header(file, path, name)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            block = file.read(size)
            if len(block) != size:
                raise SamplesError(f"{path}: array '{name}' is cut", "a whole file")
            row = np.frombuffer(block, dtype).reshape(shape[1:])
            yield row.astype(dtype.newbyteorder("="))  # a copy: that of a buffer is read-only


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError) as error:
        raise SamplesError(f"{path} cannot be read ({error})", "an .npz of arrays") from error
