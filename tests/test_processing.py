"""Images become tensors exactly as torchvision prepares them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing, open_image

RNG = np.random.default_rng(0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    small = RNG.integers(0, 256, (height // 7 + 2, width // 7 + 2, channels), dtype=np.uint8)
    image = Image.fromarray(small[:, :, 0] if channels == 1 else small)
    return image.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def transforms() -> object:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):  # a CPU build of torch lacks what torchvision's wheel expects
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    from torchvision import transforms

    return transforms


@pytest.mark.parametrize("size", [(231, 310), (310, 231), (256, 256), (90, 400), (33, 20)])
def test_parity_with_torchvision(size: tuple[int, int], transforms: object) -> None:
    t = transforms
    image = picture(*size)
    expected = t.Compose(  # type: ignore[attr-defined]
        [t.Resize(64), t.CenterCrop(56), t.ToTensor(), t.Normalize(MEAN, STD)]  # type: ignore[attr-defined]
    )(image).numpy()
    mine = Processing.parse("size=64,crop=56,mean=0.485/0.456/0.406,std=0.229,0.224,0.225").image
    assert mine is not None
    np.testing.assert_allclose(mine.apply(image, 3, "nchw", "float32"), expected, 0, 1e-6)
    channels_last = mine.apply(image, 3, "nhwc", "float32")
    np.testing.assert_allclose(channels_last.transpose(2, 0, 1), expected, 0, 1e-6)


def test_a_crop_larger_than_the_image(transforms: object) -> None:
    image = picture(40, 31)
    t = transforms
    expected = t.Compose([t.CenterCrop(48), t.ToTensor()])(image).numpy()  # type: ignore[attr-defined]
    mine = ImageProcessing(crop=(48, 48)).apply(image, 3, "nchw", "float32")
    np.testing.assert_allclose(mine, expected, atol=1e-6)


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_an_exact_size(how: str, transforms: object) -> None:
    t = transforms
    image = picture(40, 31)
    resize = t.Resize((32, 24), t.InterpolationMode(how))  # type: ignore[attr-defined]
    expected = t.Compose([resize, t.ToTensor()])(image).numpy()  # type: ignore[attr-defined]
    mine = Processing.parse(f"size=32x24,interpolation={how}").image
    assert mine is not None
    np.testing.assert_allclose(mine.apply(image, 3, "nchw", "float32"), expected, atol=1e-6)


class TestModes:
    def test_gray_models_and_gray_images(self) -> None:
        gray, colour = picture(8, 8, 1), picture(8, 8)
        assert ImageProcessing().apply(colour, 1, "nchw", "float32").shape == (1, 8, 8)
        three = ImageProcessing().apply(gray, 3, "nchw", "float32")
        np.testing.assert_array_equal(three[0], three[2])

    def test_bgr_and_uint8(self) -> None:
        image = picture(6, 5)
        rgb = ImageProcessing().apply(image, 3, "nhwc", "uint8")
        assert rgb.dtype == np.uint8
        np.testing.assert_array_equal(rgb, np.asarray(image))
        bgr = ImageProcessing(channels="bgr").apply(image, 3, "nhwc", "uint8")
        np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])

    @pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "CMYK", "1"])
    def test_other_modes(self, mode: str) -> None:
        image = (
            picture(8, 8).convert("L").convert(mode)
            if mode == "LA"
            else picture(8, 8).convert(mode)
        )
        assert ImageProcessing().apply(image, 3, "nchw", "float32").shape == (3, 8, 8)

    def test_transparency_is_left_out(self) -> None:
        """Without a warning of Pillow, which would be a second line on stderr."""
        image = picture(8, 8).quantize(16)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", transparency=bytes(range(16)))
        opened = open_image(buffer.getvalue())
        assert "transparency" in opened.info
        values = ImageProcessing().apply(opened, 3, "nhwc", "uint8")
        np.testing.assert_array_equal(values, np.asarray(image.convert("RGB")))

    def test_16_bit_gray_is_scaled(self) -> None:
        image = Image.fromarray(np.array([[0, 65535], [32896, 257]], np.uint16))
        values = ImageProcessing().apply(image, 1, "nchw", "float32")
        np.testing.assert_allclose(values[0], [[0, 1], [128 / 255, 1 / 255]], atol=1e-6)

    def test_mean_must_fit_the_channels(self) -> None:
        with pytest.raises(InputError, match=r"mean has 3 values; expected 1$"):
            ImageProcessing(mean=MEAN).apply(picture(4, 4), 1, "nchw", "float32")

    def test_a_narrow_image_is_not_scaled_to_a_huge_one(self) -> None:
        """224 × 67 million pixels would be 45 GB."""
        narrow = Image.new("RGB", (300_000, 1))
        with pytest.raises(
            SamplesError, match=r"300000×1 pixels, scaled to 224×67200000; expected"
        ):
            ImageProcessing((224, 224), (224, 224)).apply(narrow, 3, "nchw", "float32")


class TestOpen:
    def test_exif_turns_the_image(self, tmp_path: Path) -> None:
        image = picture(10, 20)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.jpg", exif=exif)
        assert open_image(tmp_path / "turned.jpg").size == (10, 20)

    def test_bytes_and_arrays(self) -> None:
        image = picture(5, 6)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        for raw in (buffer.getvalue(), np.asarray(image), image):
            np.testing.assert_array_equal(np.asarray(open_image(raw)), np.asarray(image))

    def test_what_is_no_image(self, tmp_path: Path) -> None:
        picture(60, 60).save(tmp_path / "whole.png")
        whole = (tmp_path / "whole.png").read_bytes()
        (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "text.png").write_text("no image")
        for name in ("cut.png", "text.png"):
            with pytest.raises(SamplesError, match=f"{name} cannot be read as an image"):
                open_image(tmp_path / name)
        with pytest.raises(SamplesError, match="does not exist"):
            open_image(tmp_path / "gone.png")
        with pytest.raises(SamplesError, match=r"float64\[4\]; expected uint8"):
            open_image(np.zeros(4))

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
    def test_bytes_that_changed_on_disk(self, form: str) -> None:
        """Are an image or one line, never another exception or a warning of Pillow."""
        image, buffer = picture(30, 40), io.BytesIO()
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(buffer, form, exif=exif)
        rng = random.Random(0)
        for _ in range(300):
            broken = bytearray(buffer.getvalue())
            for _ in range(rng.randrange(4)):
                broken[rng.randrange(rng.choice([100, len(broken)]))] = rng.randrange(256)
            try:
                open_image(bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])]))
            except SamplesError as error:
                assert "\n" not in str(error)

    @pytest.mark.parametrize("raised", [TypeError("no int"), EOFError(), IndexError("3")])
    def test_what_pillows_readers_raise(
        self, raised: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise raised

        picture(4, 4).save(tmp_path / "a.png")
        monkeypatch.setattr("PIL.ImageOps.exif_transpose", fails)
        told = str(raised) or "EOFError"
        with pytest.raises(SamplesError, match=rf"a\.png cannot be read as an image \({told}\)"):
            open_image(tmp_path / "a.png")

    @pytest.mark.parametrize("side", [9000, 11000])
    def test_a_huge_image_is_refused_from_its_header(self, tmp_path: Path, side: int) -> None:
        """Without Pillow's own warning, which begins at 89 million pixels."""
        Image.new("1", (side, side)).save(tmp_path / "huge.png")
        with pytest.raises(SamplesError, match=f"{side}×{side} pixels; expected at most"):
            open_image(tmp_path / "huge.png")

    def test_a_bomb_is_refused(self, tmp_path: Path) -> None:
        Image.new("1", (14000, 14000)).save(tmp_path / "bomb.png")
        with pytest.raises(SamplesError, match=r"bomb\.png cannot be read as an image"):
            open_image(tmp_path / "bomb.png")

    @pytest.mark.parametrize("shape", [(4, 4, 5), (4, 4, 2), (0, 4), (4, 4, 0)])
    def test_arrays_that_are_no_image(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(SamplesError, match="expected 1, 3 or 4 channels"):
            open_image(np.zeros(shape, np.uint8))

    def test_arrays_that_are(self) -> None:
        for shape in ((4, 4), (4, 4, 1), (4, 4, 3), (4, 4, 4)):
            values = ImageProcessing().apply(
                open_image(np.zeros(shape, np.uint8)), 3, "nchw", "uint8"
            )
            assert values.shape == (3, 4, 4)


class TestText:
    def test_sizes_and_lists(self) -> None:
        parsed = Processing.parse(
            "size=256x192, mean=[0.5, 0.4, 0.3], std=0.2, scale=1/128, layout=NHWC"
        )
        assert parsed.image == ImageProcessing(
            (256, 192), None, (0.5, 0.4, 0.3), (0.2,), "nhwc", 1 / 128
        )
        assert Processing.from_dict(parsed.to_dict()) == parsed
        assert Processing.from_dict(parsed.with_labels(["a"]).to_dict()).labels == ("a",)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("size", "expected KEY=VALUE"),
            ("", " is empty; expected KEY=VALUE"),
            (" ,", " is empty; expected KEY=VALUE"),
            ("size=", "size=; expected a value"),
            ("size=wide", "size=wide; expected numbers"),
            ("size=0", "size=0x0; expected at least one pixel"),
            ("crop=-5", "crop=-5x-5; expected at least one pixel"),
            ("size=99999", "size=99999x99999; expected .* at most 50,000,000"),
            ("size=1,crop=1,size=2", "has 'size' twice; expected each key once"),
            ("size=1x2x3", "one number, or HEIGHTxWIDTH"),
            ("colour=red", "has the key 'colour'; expected one of"),
            ("std=0", "std=0; expected finite numbers other than 0"),
            ("std=0.2/0/0.2", "std=0.2/0/0.2; expected finite numbers other than 0"),
            ("scale=0", "scale=0; expected finite numbers other than 0"),
            ("scale=1/0", "scale=1/0; expected numbers"),
            ("scale=1/2/3", "scale=1/2/3; expected one value"),
            ("mean=nan", "mean=nan; expected finite numbers"),
            ("mean=a", "mean=a; expected numbers"),
            ("mean=0.5,0.5", "mean has 2 values; expected 1 or 3, one per channel"),
            ("channels=gray,std=1/2/3", "std has 3 values; expected 1$"),
            ("layout=cube", "expected one of nchw, nhwc"),
            ("layout=nchw,nhwc", "layout=nchw/nhwc; expected one value"),
            ("interpolation=cubic", "expected one of nearest, bilinear, bicubic, lanczos"),
            ("channels=cmyk", "expected one of rgb, bgr, gray"),
        ],
    )
    def test_refusals(self, text: str, expected: str) -> None:
        with pytest.raises(InputError, match=f"^--preprocess.*{expected}") as caught:
            Processing.parse(text)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "value", ["0.1,0.2,0.3", "[0.1, 0.2, 0.3]", "0.1/0.2/0.3", "0.1:0.2:0.3", "(0.1 0.2 0.3)"]
    )
    def test_lists_of_every_form(self, value: str) -> None:
        image = Processing.parse(f"size=4,mean={value},layout=nchw").image
        assert image == ImageProcessing((4, 4), mean=(0.1, 0.2, 0.3), layout="nchw")

    def test_unknown_keys_are_refused(self) -> None:
        with pytest.raises(InputError, match="processing has the keys sound"):
            Processing.from_dict({"sound": 1})
        with pytest.raises(InputError, match="processing has the keys colour"):
            Processing.from_dict({"image": {"colour": "red"}})

    @pytest.mark.parametrize(
        "image",
        [
            3,
            {"size": "224"},
            {"crop": [1]},
            {"size": [1.5, 2]},
            {"mean": 0.5},
            {"std": ["a"]},
            {"scale": None},
            {"layout": 3},
            {"interpolation": None},
        ],
    )
    def test_values_of_another_type_are_refused(self, image: object) -> None:
        """With ``TypeError``, from which the reader of a bundle says that it is damaged."""
        for data in ({"image": image}, {"labels": "cat"}):
            with pytest.raises(TypeError, match="the processing"):
                Processing.from_dict(data)

    def test_json_and_back(self) -> None:
        image = ImageProcessing((3, 4), (2, 2), MEAN, STD, "nhwc", 1.0, "bgr", "bicubic")
        whole = Processing(image, ("cat", "dog"))
        assert Processing.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
        assert Processing.from_dict({"image": None}) == Processing()
