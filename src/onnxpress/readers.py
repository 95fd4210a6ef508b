"""The forms that samples come in: folders, files, functions, random values, live objects."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from onnxpress import boxes, npz, tables
from onnxpress.errors import SamplesError
from onnxpress.processing import pixels
from onnxpress.samples import Label, Raw, Record, Samples, stamp
from onnxpress.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
IMAGES, ANSWERS, CLASSES = "images", ("masks", "targets"), "classes.txt"
"""The sub-folders of images and of what they are labelled by."""

FORMS = (
    "a folder of images, a .txt, .jsonl, .csv, .parquet or .npz file, COCO's annotations.json, "
    "FILE.py:function, or random:N"
)

TABLES: Mapping[str, Callable[[Path, str | None], Samples]] = {
    ".csv": tables.table,
    ".jsonl": tables.jsonl,
    ".parquet": tables.parquet,
}
"""What has columns, of which one may be the label."""
FILES: Mapping[str, Callable[[Path], Samples]] = {
    ".json": boxes.coco,
    ".npz": npz.arrays,
    ".txt": tables.lines,
}


def read(ref: object, label: str | None, seed: int, signature: Signature | None) -> Samples:
    """Samples of whatever form ``ref`` has; see ``Samples.open``."""
    text = str(ref) if isinstance(ref, str | Path) else "live objects"
    suffix = Path(text).suffix.lower()
    if label is not None and suffix not in TABLES:
        raise SamplesError(f"--label {label} with {text}", f"a table: {', '.join(TABLES)}")
    if not isinstance(ref, str | Path):
        return _live(ref)
    if not text:
        raise SamplesError("--samples is empty", FORMS)
    if text.startswith("random:"):
        return _random(text, seed, signature)
    file, colon, name = text.rpartition(":")
    if colon and file.endswith(".py"):
        return _function(Path(file), name)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise SamplesError(f"--samples {text} does not exist", FORMS)
    if suffix in TABLES:
        return TABLES[suffix](path, label)
    if suffix in FILES:
        return FILES[suffix](path)
    raise SamplesError(f"--samples {text} is of no known form", FORMS)


def _folder(folder: Path) -> Samples:
    """Images of a folder, or of its class sub-folders in the order of their sorted names.

    Names that are numbers are sorted as numbers: 10 comes after 9. Two sub-folders ``images`` and
    ``masks`` (or ``targets``) are no classes: see ``_paired``. A folder with COCO's
    ``annotations.json`` is that file.
    """
    if (folder / boxes.ANNOTATIONS).is_file():
        return boxes.coco(folder / boxes.ANNOTATIONS)
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in entries if path.is_dir()]
    for answers in ANSWERS:
        if {path.name for path in classes} == {IMAGES, answers}:
            return _paired(folder, answers)
    if all(path.name.isdecimal() for path in classes):
        classes.sort(key=lambda path: int(path.name))
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
        identity="".join(stamp(cast("Path", record.value)) for record in records),
        classes=tuple(path.name for path in classes),
        labels=[record.label for record in records],
    )


def _paired(folder: Path, answers: str) -> Samples:
    """Images, each labelled by the file of the same stem in the folder ``answers``.

    The lines of a ``classes.txt`` beside them name the classes, from 0 on.
    """
    images = sorted(path for path in (folder / IMAGES).iterdir() if _is_image(path))
    files = {path.stem: path for path in sorted((folder / answers).iterdir()) if _is_image(path)}
    missing = [path.name for path in images if path.stem not in files]
    if missing:
        raise SamplesError(
            f"{len(missing)} of {len(images)} images in {folder} have no file in {answers}/, such "
            f"as {missing[0]}",
            f"{answers}/{Path(missing[0]).stem}.png",
        )
    records = [Record(path, files[path.stem], path.name) for path in images]
    named = folder / CLASSES
    classes = tuple(named.read_text(encoding="utf-8").split("\n")) if named.is_file() else ()
    classes = tuple(name.strip() for name in classes if name.strip())
    return Samples(
        lambda: records,
        "images",
        f"{len(records)} images with {answers} in {folder.name}",
        identity="".join(stamp(path) + stamp(files[path.stem]) for path in images)
        + "\n".join(classes),
        classes=classes,
        labels=[record.label for record in records],
    )


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _function(path: Path, name: str) -> Samples:
    """The function is called for each pass over the samples.

    What it yields tells whether it changed: its code alone may read other data tomorrow.
    """
    if not path.is_file():
        raise SamplesError(f"--samples {path} does not exist", FORMS)
    spec = importlib.util.spec_from_file_location(f"onnxpress_samples_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types of their fields
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _raised(path, str(path), error) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SamplesError(f"{path} has no function '{name}'", "a function that yields samples")

    def stream() -> Iterator[Record]:
        try:
            made = function()
            if not isinstance(made, Iterable):
                found = f"{path}:{name} returned {type(made).__name__}"
                raise SamplesError(found, "samples to iterate over")
            for number, value in enumerate(made):
                yield record_of(value, number)
        except SamplesError:
            raise
        except Exception as error:
            raise _raised(path, f"{path}:{name}", error) from error

    first = next(iter(stream()), None)
    kind = "tensors" if first is None else _kind(first.value)
    identity = functools.cache(lambda: _digest(stream()))
    return Samples(stream, kind, f"{path.name}:{name}", identity=identity)


def _random(text: str, seed: int, signature: Signature | None) -> Samples:
    count = text.removeprefix("random:")
    if not count.isdecimal() or int(count) == 0:
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
        if value.ndim == 0:
            raise SamplesError("the array has no dimensions", "one row for each sample")
        return _listed(list(value), "an array")
    if isinstance(value, Mapping):
        return _columns(value)
    if isinstance(value, list | tuple):
        return _listed(list(value), "a list")
    raise SamplesError(f"samples are a {type(value).__name__}", f"{FORMS}, a list, or arrays")


def _columns(columns: Mapping[object, object]) -> Samples:
    """Arrays by input name, and ``labels`` where there are some, as in an ``.npz``."""
    arrays = {str(name): _with_rows(str(name), column) for name, column in columns.items()}
    inputs = [name for name in arrays if name != npz.LABELS]
    if not inputs:
        found = "only labels" if arrays else "no arrays"
        raise SamplesError(f"the samples hold {found}", "one array for each input")
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise SamplesError("the arrays have different lengths", "one row for each sample")
    answers = arrays.get(npz.LABELS)
    rows: list[object] = [
        Record(
            {name: np.asarray(arrays[name][number]) for name in inputs},
            None if answers is None else _label(answers[number], f"row {number}"),
            f"row {number}",
        )
        for number in range(lengths.pop())
    ]
    return _listed(rows, "arrays")


def _with_rows(name: str, column: object) -> Sequence[object]:
    shape = getattr(column, "shape", (0,))
    if isinstance(column, str | bytes | Mapping) or not isinstance(column, Sized) or shape == ():
        found = f"the samples' '{name}' is a {type(column).__name__} without rows"
        raise SamplesError(found, "an array with one row for each sample")
    return cast("Sequence[object]", column)


def _listed(values: list[object], description: str) -> Samples:
    records = [record_of(value, number) for number, value in enumerate(values)]
    kind = _kind(records[0].value) if records else "tensors"
    return Samples(
        lambda: records,
        kind,
        f"{len(records)} records of {description}",
        identity=_digest(records),
        labels=[record.label for record in records],
    )


def record_of(value: object, number: int) -> Record:
    """A record from a value, a (value, label) pair or a record. Raises ``SamplesError``."""
    name = f"sample {number}"
    if isinstance(value, Record):
        name = value.name or name
        return Record(_raw(value.value, name), _label(value.label, name), name)
    if isinstance(value, tuple) and len(value) == 2:
        return Record(_raw(value[0], name), _label(value[1], name), name)
    return Record(_raw(value, name), None, name)


def _label(value: object, name: str) -> Label | None:
    """A plain label, also from NumPy's and torch's scalars and arrays of one; other arrays stay.

    A Pillow image is its pixels as they are: those of a palette are its indices. A list of
    mappings, or an empty one, is boxes: see ``boxes.rows``.
    """
    if isinstance(value, list) and (not value or isinstance(value[0], Mapping)):
        return boxes.rows(value, name)
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = np.asarray(value.detach().cpu())
    elif hasattr(value, "getbands"):  # a Pillow image
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and (value.size != 1 or value.ndim > 1):
        if value.dtype.hasobject or (not value.size and value.ndim < 2):
            found = f"the label of {name} is {value.dtype}{list(value.shape)}"
            raise SamplesError(found, "numbers")
        return value
    plain = value.tolist() if hasattr(value, "tolist") else value
    while isinstance(plain, list) and len(plain) == 1:
        plain = plain[0]
    if plain is not None and not isinstance(plain, int | float | str | Path):
        raise SamplesError(
            f"the label of {name} is a {type(plain).__name__}",
            "a number, a text, an array, or the Path of an image",
        )
    return plain


def _raw(value: object, name: str) -> Raw:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = np.asarray(value.detach())
    if not isinstance(value, Path | str | bytes | np.ndarray | Mapping):
        if hasattr(value, "convert") and hasattr(value, "size"):  # a Pillow image
            return pixels(cast("Image.Image", value))
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


def _digest(records: Iterable[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(_content(record.value))
        digest.update(_content(record.label))
    return digest.hexdigest()


def _content(value: object) -> bytes:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, Mapping):
        return b"".join(f"{key}".encode() + _content(item) for key, item in value.items())
    if isinstance(value, Path) or (isinstance(value, str) and _kind(value) == "images"):
        return stamp(Path(value)).encode()
    return value if isinstance(value, bytes) else repr(value).encode()


def _raised(path: Path, where: str, error: Exception) -> SamplesError:
    text = (str(error).strip() or "no message").splitlines()[0]
    own = [frame.lineno for frame in inspect.trace() if Path(frame.filename) == path.resolve()]
    line = f" (line {own[-1]})" if own else ""
    return SamplesError(f"{where} raised {type(error).__name__}: {text}{line}", "samples")
