"""What the model sees of an image, and where that lies in it: both must tell the same place."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.errors import InputError
from onnxpress.processing import ImageProcessing, Processing, image_size, open_image

SIZES = [(40, 100), (100, 40), (64, 64), (33, 47), (300, 20)]


def marked(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Black with a white box (left, top, right, bottom)."""
    pixels = np.zeros((*size, 3), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "processing",
    [
        ImageProcessing(size=(48, 64)),
        ImageProcessing(size=(48, 64), letterbox=114),
        ImageProcessing(size=(48, 48), crop=(40, 44)),
        ImageProcessing(size=(30, 30), crop=(40, 44)),
        ImageProcessing(crop=(50, 50)),
    ],
)
def test_a_box_that_the_model_sees_is_found_in_the_image(
    processing: ImageProcessing, size: tuple[int, int]
) -> None:
    height, width = size
    box = (width * 3 // 8, height * 3 // 8, width * 5 // 8, height * 5 // 8)
    seen = processing.apply(marked(size, box), 3, "nchw", "float32")[0] > 0.5
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float64)
    placement = processing.placement(size)
    wanted = np.array(box, np.float64)
    tolerance = 0.51 / min(placement.scale) + 1e-6  # half of a model's pixel
    shown = placement.boxes_in_image(found)[0]
    inside = (found[0] > 0).all() and found[0][2] < seen.shape[1] and found[0][3] < seen.shape[0]
    if inside:
        np.testing.assert_allclose(shown, wanted, atol=tolerance)
    else:  # a part was cut off by a crop: what is left lies inside
        assert (shown[:2] >= wanted[:2] - tolerance).all()
        assert (shown[2:] <= wanted[2:] + tolerance).all()


def test_a_letterbox_keeps_the_proportions_between_gray() -> None:
    white = Image.new("RGB", (200, 100), (255, 255, 255))
    seen = ImageProcessing(size=(64, 64), letterbox=114, scale=1.0).apply(white, 3, "nhwc", "uint8")
    assert (seen[:16] == 114).all()
    assert (seen[16:48] == 255).all()
    assert (seen[48:] == 114).all()


def test_boxes_are_cut_at_the_images_edge() -> None:
    placement = ImageProcessing(size=(64, 64), letterbox=0).placement((100, 200))
    boxes = placement.boxes_in_image(np.array([[-5.0, 0, 70, 64]]))
    np.testing.assert_array_equal(boxes, [[0, 0, 200, 100]])


def test_letterbox_is_a_key_of_preprocess_and_travels() -> None:
    processing = Processing.parse("size=64,letterbox=114")
    assert processing.image == ImageProcessing(size=(64, 64), letterbox=114)
    assert Processing.from_dict(processing.to_dict()) == processing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("letterbox=gray", "letterbox=gray; expected numbers"),
        ("letterbox=300", "letterbox=300; expected a gray from 0 to 255"),
        ("letterbox=0.5", "letterbox=0.5; expected one whole number"),
        ("size=64,crop=32,letterbox=0", "both letterbox and crop; expected one of them"),
    ],
)
def test_a_wrong_letterbox_is_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Processing.parse(text)


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path, plain = tmp_path / "turned.jpg", tmp_path / "plain.png"
    image = Image.new("RGB", (30, 20))
    image.save(path, exif=exif)
    image.save(plain)
    buffer = io.BytesIO(plain.read_bytes())
    for raw in (path, plain, buffer.getvalue(), np.asarray(image), image):
        opened = open_image(raw)
        assert image_size(raw) == (opened.height, opened.width)
    assert image_size(path) == (30, 20)
    assert image_size({"x": np.zeros(3)}) is None
    assert image_size(np.zeros((3, 4, 4), np.float32)) is None
