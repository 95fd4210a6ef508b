"""Labels are the model's classes, or they are not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.samples import Samples
from onnxpress.signature import Signature, TensorSpec


def folders(path: Path, *names: str) -> Samples:
    for name in names:
        (path / name).mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path / name / "a.png")
    return Samples.open(path)


@pytest.mark.parametrize(
    ("names", "classes", "labels", "noted"),
    [
        (("ant", "bee", "cat"), 3, [0, 1, 2], False),
        (("ant", "bee", "cat"), 1000, [None, None, None], True),
        (("7", "12"), 1000, [7, 12], False),
        (("7", "12"), 10, [None, None], True),
        (("0", "1"), "classes", [0, 1], False),
        (tuple(map(str, range(12))), 12, list(range(12)), False),
    ],
)
def test_class_folders(
    tmp_path: Path, names: tuple[str, ...], classes: int | str, labels: list[object], noted: bool
) -> None:
    signature = Signature((), (TensorSpec("y", "float32", ("n", classes)),))
    samples, note = folders(tmp_path, *names).fitting(signature)
    assert samples.labels() == labels
    assert bool(note) is noted
