"""What only image_to_image does: pixels from outputs, PSNR on target images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing
from onnxpress.samples import Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Scored
from onnxpress.tasks.image_to_image import ImageToImage


def bind(planes: int = 3, **processing: object) -> Bound:
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", planes, 4, 4)),),
        (TensorSpec("y", "float32", ("batch", planes, 8, 8)),),
    )
    image = ImageProcessing(**processing)  # type: ignore[arg-type]
    return ImageToImage().bind(signature, Processing(image))


def targets(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def output(images: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """What a model gives: (n, 3, 8, 8) in 0 to 1, off by noise of so many levels."""
    off = np.random.default_rng(seed).normal(0, noise, images.shape)
    levels = (images + off).clip(0, 255).transpose(0, 3, 1, 2)
    return (levels / 255).astype(np.float32)


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Written independently: the mean over images, on 0 to 1."""
    errors = ((found.transpose(0, 2, 3, 1) - wanted / 255) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(-10 * np.log10(errors)))


def test_targets_make_a_ratio_of_psnr() -> None:
    wanted = targets(40)
    theirs, mine = output(wanted, 4, 1), output(wanted, 8, 2)
    quality = bind().score([Scored({"y": mine}, {"y": theirs}, list(wanted))])
    assert quality.metric == "PSNR / origin's PSNR"
    assert quality.origin == pytest.approx(psnr(theirs, wanted), abs=1e-4)
    assert quality.candidate == pytest.approx(psnr(mine, wanted), abs=1e-4)
    assert quality.value == pytest.approx(psnr(mine, wanted) / psnr(theirs, wanted))
    assert 0.8 < quality.low < quality.value < 0.9


def test_a_broken_image_has_nothing() -> None:
    wanted = targets(10)
    theirs = output(wanted, 4, 1)
    quality = bind().score([Scored({"y": theirs * np.nan}, {"y": theirs}, list(wanted))])
    assert (quality.value, quality.low) == (0, 0)


def test_an_origin_that_reaches_the_target_is_at_the_rounding() -> None:
    wanted = targets(10)
    exact = output(wanted, 0, 0)
    quality = bind().score([Scored({"y": exact}, {"y": exact}, list(wanted))])
    assert quality.value == 1
    assert quality.origin == pytest.approx(58.92, abs=0.01)


def test_without_targets_the_images_are_compared() -> None:
    theirs = output(targets(20), 0, 0)
    quality = bind().score([Scored({"y": theirs}, {"y": theirs}, [None] * 20)])
    assert quality.metric == "concordance correlation with the origin's output"
    assert (quality.value, quality.origin) == (1, None)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2)},
        {"scale": 1.0},
        {"channels": "bgr"},
    ],
)
def test_pixels_come_out_as_they_went_in(how: dict[str, object]) -> None:
    """A model that enlarges by repeating pixels: what it gives are the image's own."""
    bound = bind(**how)
    image = targets(1)[0, :4, :4]
    prepared = bound.encode([Record(image)])["x"]
    [made] = bound.rows({"y": prepared.repeat(2, axis=2).repeat(2, axis=3)}, [])
    assert isinstance(made, np.ndarray)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, image.repeat(2, axis=0).repeat(2, axis=1))
    assert bound.told(made) == {"size": [8, 8], "channels": 3}


def test_targets_are_read_from_their_files(tmp_path: Path) -> None:
    target = targets(1)[0]
    Image.fromarray(target).save(tmp_path / "t.png")
    found = bind().truth(Record("a.png", tmp_path / "t.png", "a.png"))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, target)
    gray = bind(planes=1).truth(Record("a.png", target[:, :, 0], "a.png"))
    assert isinstance(gray, np.ndarray)
    assert gray.shape == (8, 8, 1)


def test_refusals() -> None:
    wanted = targets(2)
    given = output(wanted, 0, 0)
    with pytest.raises(SamplesError, match="a target is 4×4 pixels; expected 8×8"):
        bind().score([Scored({"y": given}, {"y": given}, list(wanted[:, :4, :4]))])
    with pytest.raises(SamplesError, match="the target of 'a' has 1 channels; expected 3"):
        bind().truth(Record("a.png", wanted[0, :, :, 0], "a"))
    with pytest.raises(SamplesError, match="the label of 'a' is 3; expected the target image"):
        bind().truth(Record("a.png", 3, "a"))
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 3, 4, 4)),),
        (TensorSpec("y", "float32", ("batch", 21, 8, 8)),),
    )
    with pytest.raises(InputError, match="expected 1 or 3 channels"):
        ImageToImage().bind(signature, Processing(ImageProcessing()))
