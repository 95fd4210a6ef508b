"""The forms that samples come in: folders, files, functions, random values, live objects."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import inspect
import itertools
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from onnxpress.errors import MissingExtra, SamplesError
from onnxpress.samples import Label, Raw, Record, Samples
from onnxpress.signature import Signature, TensorSpec

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
FORMS = (
    "a folder of images, a .txt, .jsonl, .csv, .parquet or .npz file, FILE.py:function, or random:N"
)


def read(ref: object, label: str | None, seed: int, signature: Signature | None) -> Samples:
    """Samples of whatever form ``ref`` has; see ``Samples.open``."""
    if not isinstance(ref, str | Path):
        return _live(ref)
    text = str(ref)
    if text.startswith("random:"):
        return _random(text, seed, signature)
    file, colon, name = text.rpartition(":")
    if colon and file.endswith(".py"):
        return _function(Path(file), name)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    readers: Mapping[str, Callable[[Path, str | None], Samples]] = {
        ".txt": lambda path, _: _lines(path),
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".parquet": _parquet,
        ".npz": lambda path, _: _npz(path),
    }
    if not path.exists():
        raise SamplesError(f"--samples {text} does not exist", FORMS)
    if path.suffix.lower() not in readers:
        raise SamplesError(f"--samples {text} is of no known form", FORMS)
    return readers[path.suffix.lower()](path, label)


def _folder(folder: Path) -> Samples:
    """Images of a folder, or of its class sub-folders in the order of their sorted names."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in entries if path.is_dir()]
    flat = [path for path in entries if _is_image(path)]
    if flat and classes:
        raise SamplesError(
            f"{folder} holds both images and folders",
            "images alone, or one sub-folder for each class",
        )
    records = [Record(path, None, path.name) for path in flat]
    for index, inner in enumerate(classes):
        images = sorted(path for path in inner.iterdir() if _is_image(path))
        records += [Record(path, index, f"{inner.name}/{path.name}") for path in images]
    if not records:
        raise SamplesError(
            f"{folder} holds no images", f"files such as {', '.join(sorted(IMAGE_SUFFIXES)[:5])}"
        )
    return Samples(
        lambda: records,
        "images",
        f"{len(records)} images in {folder.name}",
        identity="".join(_stamp(cast("Path", record.value)) for record in records),
        classes=tuple(path.name for path in classes),
        labels=[record.label for record in records],
    )


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _lines(path: Path) -> Samples:
    def stream() -> Iterator[Record]:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Record(line.rstrip("\r\n"), None, f"line {number}")

    return _of_file(path, stream, "texts")


def _jsonl(path: Path, label: str | None) -> Samples:
    """A text or an object a line; objects with ``text`` are texts, others rows."""
    with path.open(encoding="utf-8") as file:
        first = next((_json(line, path, 1) for line in file if line.strip()), "")
    kind = "texts" if isinstance(first, str) or "text" in first else "rows"
    if label is not None and isinstance(first, Mapping) and label not in first:
        raise _no_column(path, label, first)

    def stream() -> Iterator[Record]:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                value = _json(line, path, number)
                if isinstance(value, str):
                    yield Record(value, None, f"line {number}")
                    continue
                column = label or "label"
                answer = cast("Label | None", value.get(column))
                row = {key: item for key, item in value.items() if key != column}
                raw: Raw = str(value["text"]) if kind == "texts" else row
                yield Record(raw, answer, f"line {number}")

    return _of_file(path, stream, kind, label or "")


def _json(line: str, path: Path, number: int) -> str | Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, str | dict):
        raise SamplesError(f"{path}, line {number} is no JSON text or object", "one on each line")
    return value


def _csv(path: Path, label: str | None) -> Samples:
    with path.open(newline="", encoding="utf-8") as file:
        columns = csv.DictReader(file).fieldnames or []
    if label is not None and label not in columns:
        raise _no_column(path, label, columns)

    def stream() -> Iterator[Record]:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                answer = _typed(row.pop(label)) if label else None
                yield Record({k: _typed(v) for k, v in row.items()}, answer, f"line {number}")

    return _of_file(path, stream, "rows", label or "")


def _typed(text: str) -> Label:
    """A number where the text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except (ValueError, TypeError):
            continue
    return text


def _parquet(path: Path, label: str | None) -> Samples:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra.of("pyarrow", "tables", "reads .parquet samples") from None
    columns = parquet.ParquetFile(path).schema_arrow.names
    if label is not None and label not in columns:
        raise _no_column(path, label, columns)

    def stream() -> Iterator[Record]:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(1024):
            for row in batch.to_pylist():
                answer = row.pop(label) if label else None
                yield Record(row, answer, f"row {number}")
                number += 1

    return _of_file(path, stream, "rows", label or "")


def _npz(path: Path) -> Samples:
    """Rows are read out of the archive one after another; no array is ever whole in memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            shapes = {}
            for name in names:
                with archive.open(f"{name}.npy") as member:
                    shapes[name] = _header(member, path, name)[0]
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        raise SamplesError(f"{path} cannot be read ({error})", "an .npz of arrays") from error
    counts = {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: {told or 'no arrays'}", "arrays of one length")
    inputs = [name for name in names if name != "labels"]
    if not inputs:
        raise SamplesError(f"{path} holds only labels", "one array for each input")

    def stream() -> Iterator[Record]:
        with zipfile.ZipFile(path) as archive:
            rows = {name: _rows(archive, path, name) for name in names}
            for number in range(counts[names[0]]):
                row = {name: next(rows[name]) for name in inputs}
                answer = cast("Label", next(rows["labels"]).item()) if "labels" in rows else None
                yield Record(row, answer, f"row {number}")

    return _of_file(path, stream, "tensors")


def _header(member: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    from numpy.lib import format as npy

    major, _ = npy.read_magic(member)
    reader = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = reader(member)
    if dtype.hasobject or (fortran and len(shape) > 1):
        why = "objects" if dtype.hasobject else "columns first (Fortran order)"
        raise SamplesError(f"{path}: array '{name}' holds {why}", "plain numbers, rows first")
    return shape, dtype


def _rows(archive: zipfile.ZipFile, path: Path, name: str) -> Iterator[np.ndarray]:
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(member, path, name)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            block = member.read(size)
            if len(block) != size:
                raise SamplesError(f"{path}: array '{name}' is cut", "a whole file")
            yield np.frombuffer(block, dtype).reshape(shape[1:]).copy()


def _function(path: Path, name: str) -> Samples:
    """The function is called for each pass over the samples."""
    if not path.is_file():
        raise SamplesError(f"--samples {path} does not exist", FORMS)
    spec = importlib.util.spec_from_file_location(f"onnxpress_samples_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _raised(str(path), error) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SamplesError(f"{path} has no function '{name}'", "a function that yields samples")

    def stream() -> Iterator[Record]:
        try:
            for number, value in enumerate(function()):
                yield record_of(value, number)
        except SamplesError:
            raise
        except Exception as error:
            raise _raised(f"{path}:{name}", error) from error

    first = next(iter(stream()), None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kind = "tensors" if first is None else _kind(first.value)
    return Samples(stream, kind, f"{path.name}:{name}", identity=digest)


def _random(text: str, seed: int, signature: Signature | None) -> Samples:
    count = text.removeprefix("random:")
    if not count.isdigit() or int(count) == 0:
        raise SamplesError(f"--samples {text}", "random:N with N at least 1")
    if signature is None:
        raise SamplesError(f"--samples {text} needs the model's inputs", "samples of your own here")
    inputs = signature.inputs

    def stream() -> Iterator[Record]:
        rng = np.random.default_rng(seed)
        for number in range(int(count)):
            yield Record({s.name: _random_row(s, rng) for s in inputs}, None, f"random {number}")

    described = f"{count} random records"
    return Samples(
        stream, "tensors", described, identity=f"{seed} {signature}", random=True,
        labels=[None] * int(count),
    )  # fmt: skip


def _random_row(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Normal floats; ids below 100; masks of ones; token types of zeros."""
    if spec.shape is None or spec.dtype == "object":
        raise SamplesError(f"random values for input {spec}", "samples of your own")
    free = 64 if len(spec.shape) == 4 else 16
    shape = [dim if isinstance(dim, int) else free for dim in spec.shape[1:]]
    dtype = np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b" or "mask" in spec.name:
        return np.ones(shape, dtype)
    if "type" in spec.name or "segment" in spec.name:
        return np.zeros(shape, dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def _live(value: object) -> Samples:
    if isinstance(value, np.ndarray):
        return _listed(list(value), "an array")
    if isinstance(value, Mapping):
        lengths = {len(cast("Sequence[object]", array)) for array in value.values()}
        if len(lengths) != 1:
            raise SamplesError("the arrays have different lengths", "one row for each sample")
        answers = value.get("labels")
        names = [name for name in value if name != "labels"]
        rows: list[object] = [
            Record(
                {str(name): np.asarray(value[name][i]) for name in names},
                None if answers is None else np.asarray(answers)[i].item(),
                f"row {i}",
            )
            for i in range(lengths.pop())
        ]
        return _listed(rows, "arrays")
    if isinstance(value, list | tuple):
        return _listed(list(value), "a list")
    raise SamplesError(f"samples are a {type(value).__name__}", f"{FORMS}, a list, or arrays")


def _listed(values: list[object], description: str) -> Samples:
    records = [record_of(value, number) for number, value in enumerate(values)]
    digest = hashlib.sha256()
    for record in records:
        digest.update(_content(record.value))
        digest.update(repr(record.label).encode())
    kind = _kind(records[0].value) if records else "tensors"
    return Samples(
        lambda: records,
        kind,
        f"{len(records)} records of {description}",
        identity=digest.hexdigest(),
        labels=[record.label for record in records],
    )


def record_of(value: object, number: int) -> Record:
    """A record from a value, a (value, label) pair or a record. Raises ``SamplesError``."""
    name = f"sample {number}"
    if isinstance(value, Record):
        return value if value.name else Record(value.value, value.label, name)
    if isinstance(value, tuple) and len(value) == 2:
        label = value[1].item() if isinstance(value[1], np.generic | np.ndarray) else value[1]
        return Record(_raw(value[0], name), cast("Label | None", label), name)
    return Record(_raw(value, name), None, name)


def _raw(value: object, name: str) -> Raw:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = np.asarray(value.detach())
    if not isinstance(value, Path | str | bytes | np.ndarray | Mapping):
        if hasattr(value, "convert") and hasattr(value, "size"):  # a Pillow image
            return np.asarray(value)
        raise SamplesError(
            f"{name} is a {type(value).__name__}", "a path, text, bytes, array or mapping"
        )
    return value


def _kind(value: Raw) -> str:
    if isinstance(value, Path | bytes):
        return "images"
    if isinstance(value, str):
        return "images" if Path(value).suffix.lower() in IMAGE_SUFFIXES else "texts"
    if isinstance(value, np.ndarray):
        return "images" if value.dtype == np.uint8 and value.ndim in (2, 3) else "tensors"
    arrays = all(isinstance(item, np.ndarray | np.generic) for item in value.values())
    return "tensors" if arrays else "rows"


def _content(value: Raw) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, Mapping):
        parts = (f"{key}".encode() + _content(np.asarray(item)) for key, item in value.items())
        return b"".join(parts)
    if isinstance(value, Path):
        return _stamp(value).encode()
    return value if isinstance(value, bytes) else value.encode()


def _of_file(
    path: Path, stream: Callable[[], Iterable[Record]], kind: str, extra: str = ""
) -> Samples:
    return Samples(stream, kind, path.name, identity=_stamp(path) + extra)


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path} missing\n"
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n"


def _no_column(path: Path, label: str, columns: Iterable[str]) -> SamplesError:
    known = ", ".join(itertools.islice(columns, 12))
    return SamplesError(f"{path} has no column '{label}'", f"--label with one of {known}")


def _raised(where: str, error: Exception) -> SamplesError:
    text = (str(error).strip() or "no message").splitlines()[0]
    line = inspect.trace()[-1].lineno
    return SamplesError(f"{where} raised {type(error).__name__}: {text} (line {line})", "samples")
