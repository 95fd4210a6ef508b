"""Boxes as labels: COCO's annotation files, and the same entries in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxpress.errors import SamplesError
from onnxpress.samples import Record, Samples, stamp

ANNOTATIONS = "annotations.json"
IMAGES = "images"


def coco(path: Path) -> Samples:
    """Images with boxes from a COCO file, whose images lie beside it or in ``images/`` there.

    A label is float64 (n, 5): class, left, top, width, height in pixels. Classes count from 0 in
    the order of the categories' ids, and have their names. Crowds are left out.
    https://cocodataset.org/#format-data
    """
    content = _content(path)
    categories = sorted(_entries(content, "categories", path), key=lambda entry: _id(entry, path))
    index = {_id(entry, path): number for number, entry in enumerate(categories)}
    images = {_id(entry, path): entry for entry in _entries(content, "images", path)}
    boxes: dict[int, list[list[float]]] = {image: [] for image in images}
    for entry in _entries(content, "annotations", path):
        image, category = entry.get("image_id"), entry.get("category_id")
        if image not in boxes or category not in index:
            missing = f"image {image}" if image not in boxes else f"category {category}"
            raise SamplesError(f"{path}: an annotation is of {missing}", "one that the file lists")
        if not entry.get("iscrowd"):
            boxes[image].append([index[category], *_box(entry, str(path))])
    records = []
    for number, entry in images.items():
        file = _file(path, str(entry.get("file_name", "")))
        label = np.array(boxes[number], np.float64).reshape(-1, 5)
        records.append(Record(file, label, file.name))
    told = path.parent.name if path.name == ANNOTATIONS else path.name
    return Samples(
        lambda: records,
        "images",
        f"{len(records)} images with boxes in {told}",
        identity=stamp(path) + "".join(stamp(_path(record)) for record in records),
        classes=tuple(str(entry.get("name", entry["id"])) for entry in categories),
        labels=[record.label for record in records],
    )


def rows(entries: Sequence[object], name: str) -> np.ndarray:
    """A list of mappings ``class`` (or ``category_id``) and ``box`` (or ``bbox``) as (n, 5).

    Raises ``SamplesError`` that names the sample.
    """
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise SamplesError(f"the label of {name} lists a {type(entry).__name__}", "mappings")
        label = entry.get("class", entry.get("category_id"))
        if not isinstance(label, int | float | np.number):
            raise SamplesError(f"a box of {name} has the class {label!r}", "its number")
        found.append([float(label), *_box(entry, name)])
    return np.array(found, np.float64).reshape(-1, 5)


def _box(entry: Mapping[object, object], where: str) -> list[float]:
    box = entry.get("bbox", entry.get("box"))
    try:
        sides = np.asarray(box, np.float64)
    except (TypeError, ValueError):
        sides = np.empty(0)
    if sides.shape != (4,):
        raise SamplesError(f"{where}: a box is {box!r}", "[left, top, width, height] in pixels")
    return [float(side) for side in sides]


def _content(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SamplesError(f"{path} cannot be read ({error})", "COCO annotations") from error
    if not isinstance(content, dict):
        raise SamplesError(f"{path} holds a {type(content).__name__}", "COCO annotations")
    return content


def _entries(content: Mapping[str, object], key: str, path: Path) -> list[Mapping[object, object]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SamplesError(
            f"{path} has no list '{key}'", "COCO annotations: images, annotations, categories"
        )
    return entries


def _id(entry: Mapping[object, object], path: Path) -> int:
    number = entry.get("id")
    if not isinstance(number, int):
        raise SamplesError(f"{path}: an entry has the id {number!r}", "a whole number")
    return number


def _file(path: Path, name: str) -> Path:
    for folder in (path.parent, path.parent / IMAGES):
        if name and (folder / name).is_file():
            return folder / name
    raise SamplesError(f"{path} lists the image '{name}', which is missing", f"it in {IMAGES}/")


def _path(record: Record) -> Path:
    assert isinstance(record.value, Path)
    return record.value
