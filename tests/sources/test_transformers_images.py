"""Our image processing is the library's, bit by bit with Pillow, or it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.sources._transformers.images import image_processing
from onnxpress.sources._transformers.library import quiet
from zoo.texts import transformers

PHOTOS = [Image.fromarray(array) for array in load_sample_images().images]
SIZES = [(640, 427), (333, 251), (61, 97), (200, 200), (31, 30)]


def processor(kind: str, **how: Any) -> Any:
    return getattr(transformers(), f"{kind}ImageProcessorPil")(**how)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("ViT", {}),
        ("ViT", {"size": {"height": 30, "width": 44}, "resample": 3, "do_normalize": False}),
        ("ViT", {"size": {"height": 32, "width": 32}, "resample": 0, "rescale_factor": 1 / 127.5}),
        ("ViT", {"size": {"height": 32, "width": 32}, "do_rescale": False}),
        ("ConvNext", {"size": {"shortest_edge": 64}}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("Segformer", {"size": {"height": 64, "width": 64}, "do_reduce_labels": True}),
        ("Yolos", {"size": {"height": 64, "width": 96}}),
        ("CLIP", {"size": {"shortest_edge": 36}, "crop_size": {"height": 31, "width": 32}}),
        ("MobileNetV2", {}),
    ],
)
def test_bit_equal_on_photos(kind: str, how: dict[str, Any]) -> None:
    theirs = processor(kind, **how)
    mine = image_processing(theirs)
    again = Processing.from_dict(Processing(mine).to_dict()).image
    assert again == mine
    for photo in PHOTOS:
        for size in SIZES:
            image = photo.resize(size)
            with quiet():
                expected = theirs(images=image, return_tensors="np")["pixel_values"][0]
            found = mine.apply(image, 3, "nchw", "float32")
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "how", "why"),
    [
        ("Detr", {}, "in a way of its own"),
        ("DeiT", {"size": {"height": 40, "width": 40}}, "warps images"),
        ("Bit", {"size": {"shortest_edge": 30}}, "pads images to crop"),
        ("CLIP", {"do_center_crop": False}, "several sizes"),
        ("ViT", {"resample": 5}, "another filter"),
    ],
)
def test_what_ours_cannot_express_is_refused(kind: str, how: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=rf"{why}.*--preprocess") as caught:
        image_processing(processor(kind, **how))
    assert "\n" not in str(caught.value)


def test_a_step_that_no_setting_tells_is_found_by_comparing() -> None:
    class Odd:
        """Turns images upside down beside what its settings say."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def __call__(self, images: Image.Image, **how: Any) -> Any:
            return self._inner(images=images.transpose(Image.Transpose.FLIP_TOP_BOTTOM), **how)

    with pytest.raises(InputError, match="differs from our steps"):
        image_processing(Odd(processor("ViT")))
