"""Boxes as labels: COCO's files, and the same in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.errors import SamplesError
from onnxpress.samples import Samples
from onnxpress.signature import Signature, TensorSpec


def write(folder: Path, **changes: object) -> Path:
    """Three images, of which the last has no object; ids with gaps and a crowd."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (20, 10)).save(folder / "images" / f"{name}.png")
    content: dict[str, object] = {
        "images": [{"id": 10 + n, "file_name": f"{name}.png"} for n, name in enumerate("abc")],
        "categories": [{"id": 7, "name": "star"}, {"id": 2, "name": "circle"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 11, "category_id": 2, "bbox": [5, 6, 7.5, 8], "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 7, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 12, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
        **changes,
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", ["", "annotations.json"])
def test_coco(tmp_path: Path, name: str) -> None:
    samples = Samples.open(write(tmp_path / "set") / name)
    assert (samples.kind, samples.classes) == ("images", ("circle", "star"))
    assert samples.description == "3 images with boxes in set"
    a, b, c = (np.asarray(record.label) for record in samples)
    assert a.tolist() == [[1, 1, 2, 3, 4]]
    assert b.tolist() == [[0, 5, 6, 7.5, 8], [1, 0, 0, 1, 1]]
    assert c.shape == (0, 5)
    assert samples.has_labels


def test_splits_and_class_names_survive(tmp_path: Path) -> None:
    """A detector's (batch, n) outputs do not count the classes."""
    samples = Samples.open(write(tmp_path))
    scores = TensorSpec("scores", "float32", ("batch", 100))
    fitted, note = samples.fitting(Signature((), (scores,)))
    assert (fitted.classes, note) == (samples.classes, "")
    one, two = samples.split(1, 0)
    names = {record.name for part in (one, two) for record in part}
    assert (len(one), len(two), names) == (1, 2, {"a.png", "b.png", "c.png"})


def test_what_the_annotations_say_decides_the_fingerprint(tmp_path: Path) -> None:
    before = Samples.open(write(tmp_path)).fingerprint()
    assert Samples.open(write(tmp_path, annotations=[])).fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 10, "file_name": "x.png"}]}, "the image 'x.png', which is missing"),
        ({"images": None}, "has no list 'images'; expected COCO annotations"),
        ({"categories": [{"id": "7"}]}, "an entry has the id '7'"),
        ({"categories": []}, "an annotation is of category 7"),
        (
            {"annotations": [{"image_id": 10, "category_id": 7, "bbox": [1, 2]}]},
            r"a box is \[1, 2\]; expected \[left, top, width, height\]",
        ),
        ({"annotations": [{"image_id": 9, "category_id": 7}]}, "an annotation is of image 9"),
    ],
)
def test_annotations_that_do_not_fit(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    if changes.get("images"):
        changes["annotations"] = []
    with pytest.raises(SamplesError, match=message):
        Samples.open(write(tmp_path, **changes))


def test_files_that_are_no_annotations(tmp_path: Path) -> None:
    for text, message in (("{", "cannot be read"), ("[]", "holds a list; expected COCO")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(SamplesError, match=message):
            Samples.open(tmp_path / "x.json")


def test_lists_of_boxes_in_python() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    entries = [{"class": 1, "box": [1, 2, 3, 4]}, {"category_id": 0, "bbox": (0, 0, 2, 2)}]
    boxes, none = (np.asarray(r.label) for r in Samples.open([(image, entries), (image, [])]))
    assert boxes.tolist() == [[1, 1, 2, 3, 4], [0, 0, 0, 2, 2]]
    assert none.shape == (0, 5)
    for wrong, message in (
        ([{"class": "cat", "box": [0, 0, 1, 1]}], "a box of sample 0 has the class 'cat'"),
        ([{"class": 1, "box": "all"}], "sample 0: a box is 'all'"),
    ):
        with pytest.raises(SamplesError, match=message):
            Samples.open([(image, wrong)])
