"""Processing: how a raw record becomes the tensors of a model. Frozen and JSON-able."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.placement import Placement, Size, letterboxed
from onnxpress.signature import Signature
from onnxpress.tokenizing import TextProcessing

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
"""Larger images are refused from their header, before they are decoded, and none is made."""

CHOICES = {
    "layout": ("nchw", "nhwc"),
    "channels": ("rgb", "bgr", "gray"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
    "crop_rounding": ("even", "down"),
}
NEEDED = ("interpolation", "crop_rounding")
UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error)
"""What Pillow's readers raise on damaged files."""
FLAG = "--preprocess"
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)
"""Values of EXIF's orientation with which rows are columns."""


@dataclass(frozen=True)
class ImageProcessing:
    """An image as a float32 array: ``(pixel · scale - mean) / std`` for each channel.

    ``size`` is (height, width). With ``crop`` the shorter side is scaled to ``size`` and the
    centre of (height, width) ``crop`` is cut out, as torchvision's Resize and CenterCrop do;
    without it the image is scaled to exactly ``size``. With ``letterbox``, a gray from 0 to 255, it
    is scaled to fit into ``size``, and that gray fills the rest on both sides. ``layout`` and
    ``channels`` None are read off the model's input. For a uint8 input the pixels stay as they are.
    ``crop_rounding`` is what becomes of half a pixel beside the centre: to the even one as
    torchvision does, or down.
    """

    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str | None = None
    scale: float = 1 / 255
    channels: str | None = None
    interpolation: str = "bilinear"
    crop_rounding: str = "even"
    letterbox: int | None = None

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known and not (value is None and name not in NEEDED):
                raise InputError(f"{FLAG} {name}={value}", f"one of {', '.join(known)}")
        for name, numbers in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            if not np.isfinite(numbers).all() or (name != "mean" and 0 in numbers):
                expected = "finite numbers" if name == "mean" else "finite numbers other than 0"
                raise InputError(f"{FLAG} {name}={_shown(numbers)}", expected)
        self._check_lengths(1 if self.channels == "gray" else 3)
        for name in ("size", "crop"):
            sides = getattr(self, name)
            if sides is not None and (min(sides) < 1 or sides[0] * sides[1] > MAX_PIXELS):
                expected = f"at least one pixel and at most {MAX_PIXELS:,}"
                raise InputError(f"{FLAG} {name}={_shown(sides, 'x')}", expected)
        if self.letterbox is not None and not 0 <= self.letterbox <= 255:
            raise InputError(f"{FLAG} letterbox={self.letterbox}", "a gray from 0 to 255")
        if self.letterbox is not None and self.crop is not None:
            raise InputError(f"{FLAG} has both letterbox and crop", "one of them")

    def apply(self, image: Image.Image, channels: int, layout: str, dtype: str) -> np.ndarray:
        """One image as (channels, H, W) or (H, W, channels), float32, or uint8 unscaled.

        Raises ``InputError`` where mean or std do not fit the number of channels, and
        ``SamplesError`` where the image is so narrow that scaling would make it huge.
        """
        self._check_lengths(channels)
        array = np.asarray(self._resized(_mode(image, self.channels, channels)))
        array = array.reshape(*array.shape[:2], channels)
        if self.channels == "bgr":
            array = array[:, :, ::-1]
        if dtype != "uint8":
            mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
            # As torchvision does: 1 / 255 is no float32, but 255 is.
            array = (array.astype(np.float32) / np.float32(1 / self.scale) - mean) / std
            array = array.astype(np.dtype(dtype))
        return np.ascontiguousarray(array.transpose(2, 0, 1) if layout == "nchw" else array)

    def placement(self, image: Size) -> Placement:
        """Where an image of (height, width) comes to lie in what the model sees."""
        inner, offset = image, (0, 0)
        if self.size is not None and self.letterbox is not None:
            inner, offset = letterboxed(image, self.size)
        elif self.size is not None:
            inner = self.size if self.crop is None else _shorter_side(image, self.size)
        if self.crop is not None:
            offset = _corner(inner, self.crop, self.crop_rounding)
        scale = (inner[0] / image[0], inner[1] / image[1])
        return Placement(image, scale, offset)

    def _resized(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        size = self.size
        if size is not None and self.letterbox is not None:
            return self._letterboxed(image, size)
        if size is not None and self.crop is not None:
            size = _shorter_side((image.height, image.width), size)
        if size is not None and size != (image.height, image.width):
            how = Image.Resampling[self.interpolation.upper()]
            image = image.resize((size[1], size[0]), how)
        return image if self.crop is None else _centre(image, self.crop, self.crop_rounding)

    def _letterboxed(self, image: Image.Image, size: Size) -> Image.Image:
        from PIL import Image

        inner, (top, left) = letterboxed((image.height, image.width), size)
        how = Image.Resampling[self.interpolation.upper()]
        gray = Image.new("L", (size[1], size[0]), self.letterbox or 0)
        canvas = gray.convert(image.mode)
        canvas.paste(image.resize((inner[1], inner[0]), how), (left, top))
        return canvas

    def _check_lengths(self, channels: int) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                counts = "1" if channels == 1 else f"1 or {channels}, one per channel"
                raise InputError(f"{FLAG} {name} has {len(values)} values", counts)


@dataclass(frozen=True)
class Processing:
    """What a bundle needs to know to prepare raw records; ``labels`` are the classes' names.

    ``columns`` are those of a table, in the order in which a model of one matrix takes them.
    """

    image: ImageProcessing | None = None
    labels: tuple[str, ...] = ()
    text: TextProcessing | None = None
    columns: tuple[str, ...] = ()

    def with_labels(self, labels: Sequence[str]) -> Processing:
        return replace(self, labels=tuple(labels))

    def fitting(self, kind: str, signature: Signature) -> Processing:
        """What flags ask for, for samples of ``kind`` and a model; see ``TextProcessing``."""
        return self if self.text is None else replace(self, text=self.text.fitting(kind, signature))

    def to_dict(self) -> dict[str, object]:
        image = asdict(self.image) if self.image else None
        text = {"text": self.text.to_dict()} if self.text else {}
        columns = {"columns": list(self.columns)} if self.columns else {}
        return {"image": image, "labels": list(self.labels), **text, **columns}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Processing:
        """What ``to_dict`` gave. Raises ``InputError`` for unknown keys, else ``TypeError``."""
        unknown = set(data) - {"image", "labels", "text", "columns"}
        image, labels = data.get("image"), data.get("labels") or ()
        if isinstance(image, Mapping):
            unknown |= set(image) - {field.name for field in fields(ImageProcessing)}
        if unknown:
            found = f"processing has the keys {', '.join(sorted(unknown))}"
            raise InputError(found, "keys of this version", "upgrade onnxpress")
        text, columns = data.get("text"), data.get("columns") or ()
        if (
            not isinstance(labels, list | tuple)
            or not isinstance(columns, list | tuple)
            or not isinstance(image, Mapping | None)
            or not isinstance(text, Mapping | None)
        ):
            raise TypeError(f"the processing is {data!r}")
        named = tuple(map(str, labels))
        texts = None if text is None else TextProcessing.from_dict(text)
        listed = tuple(map(str, columns))
        if image is None:
            return cls(None, named, texts, listed)
        values = {key: _known(key, value) for key, value in image.items()}
        processing = ImageProcessing(**values)  # type: ignore[arg-type]  # _known checks each key
        return cls(processing, named, texts, listed)

    @classmethod
    def parse(cls, text: str) -> Processing:
        """``size=224,crop=224,mean=0.485,0.456,0.406,std=…,layout=nchw``.

        Commas separate both keys and the items of a list; ``/``, ``:`` and spaces separate items
        too. Raises ``InputError`` naming the key.
        """
        pairs: list[list[str]] = []
        parts = [part for part in (part.strip(" []()") for part in text.split(",")) if part]
        if not parts or "=" not in parts[0]:
            found = text if parts else "is empty"
            raise InputError(f"{FLAG} {found}", "KEY=VALUE,…, such as size=224,mean=0.5,std=0.5")
        for part in parts:
            key, equals, value = part.partition("=")
            if equals:
                pairs.append([key.strip().lower(), value.strip(" []()")])
            else:
                pairs[-1].append(part)
        values: dict[str, object] = {}
        for key, *texts in pairs:
            if key in values:
                raise InputError(f"{FLAG} {text} has '{key}' twice", "each key once")
            items = [item for text in texts for item in re.split(r"[/:\s]+", text) if item]
            values[key] = _value(key, items)
        return cls(ImageProcessing(**values))  # type: ignore[arg-type]  # _value types each key


def open_image(raw: object) -> Image.Image:
    """An image from a path, encoded bytes, a uint8 array (H, W) or (H, W, C), or Pillow's own.

    Turned upright as its EXIF data says. Raises ``SamplesError`` that names the file where it is
    missing, no image, cut, or of more than 50 million pixels.
    """
    from PIL import Image, ImageOps

    name = str(raw) if isinstance(raw, str | Path) else "the image"
    if isinstance(raw, Image.Image):
        return raw
    if isinstance(raw, np.ndarray):
        if raw.dtype != np.uint8 or raw.ndim not in (2, 3):
            raise SamplesError(
                f"an image is {raw.dtype}{list(raw.shape)}", "uint8[H, W] or uint8[H, W, C]"
            )
        if raw.size == 0 or raw.shape[2:] not in ((), (1,), (3,), (4,)):
            raise SamplesError(f"an image is uint8{list(raw.shape)}", "1, 3 or 4 channels")
        return Image.fromarray(raw[:, :, 0] if raw.shape[2:] == (1,) else raw)
    if not isinstance(raw, str | Path | bytes):
        raise SamplesError(f"a record is a {type(raw).__name__}", "an image")
    try:
        with warnings.catch_warnings():
            # Pillow warns of images so large that we refuse them, and of odd EXIF data.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise SamplesError(
                        f"{name} has {image.width}×{image.height} pixels", f"at most {MAX_PIXELS:,}"
                    )
                image.load()
                return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise SamplesError(f"{name} does not exist", "an image file") from None
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SamplesError(
            f"{name} cannot be read as an image ({told})", "a whole image"
        ) from error


def image_size(raw: object) -> Size | None:
    """(height, width) of an image that ``open_image`` opens, from its header; None for another."""
    from PIL import Image

    if isinstance(raw, np.ndarray):
        return (raw.shape[0], raw.shape[1]) if raw.dtype == np.uint8 and raw.ndim > 1 else None
    if isinstance(raw, Image.Image):
        return raw.height, raw.width
    if not isinstance(raw, str | Path | bytes):
        return None
    with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
        turned = image.getexif().get(ORIENTATION) in TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image of any mode as uint8 (H, W) or (H, W, 3)."""
    image = _eight_bit(image)
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit gray scaled, since Pillow would clip it; a palette with transparency as RGBA."""
    from PIL import Image

    if image.mode.startswith("I"):
        array = np.asarray(image).astype(np.float64)
        return Image.fromarray((array / 257).round().clip(0, 255).astype(np.uint8))
    return image.convert("RGBA") if "transparency" in image.info else image


def _mode(image: Image.Image, wanted: str | None, channels: int) -> Image.Image:
    """8-bit gray or RGB, as the model's channels ask for."""
    gray = wanted == "gray" or (wanted is None and channels == 1)
    if gray != (channels == 1) or channels not in (1, 3):
        raise InputError(
            f"the model's input has {channels} channels",
            "1 for gray, 3 for rgb and bgr",
            "give --preprocess channels=…",
        )
    return _eight_bit(image).convert("L" if gray else "RGB")


def _shorter_side(image: Size, size: Size) -> Size:
    """(height, width) with the shorter side at ``size``; both sides are given where they differ."""
    if size[0] != size[1]:
        return size
    short, long = sorted(image)
    other = int(size[0] * long / short)
    if size[0] * other > MAX_PIXELS:
        found = f"an image of {image[1]}×{image[0]} pixels, scaled to {size[0]}×{other}"
        raise SamplesError(found, f"at most {MAX_PIXELS:,} pixels")
    return (size[0], other) if image[0] <= image[1] else (other, size[0])


def _centre(image: Image.Image, crop: tuple[int, int], rounding: str) -> Image.Image:
    """The centre of the image, black where it is smaller."""
    from PIL import ImageOps

    height, width = crop
    wide, high = max(0, width - image.width), max(0, height - image.height)
    if wide or high:
        border = (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2)
        image = ImageOps.expand(image, border, 0)
    rounded = round if rounding == "even" else math.floor
    top = rounded((image.height - height) / 2.0)
    left = rounded((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


def _corner(inner: Size, crop: Size, rounding: str) -> tuple[int, int]:
    """(top, left) of a scaled image in its crop by ``_centre``: negative where that cuts off."""
    border = [max(0, want - have) for have, want in zip(inner, crop, strict=True)]
    rounded = round if rounding == "even" else math.floor
    top, left = (
        edge // 2 - rounded((have + edge - want) / 2.0)
        for have, want, edge in zip(inner, crop, border, strict=True)
    )
    return top, left


def _value(key: str, items: list[str]) -> object:
    known = {field.name for field in fields(ImageProcessing)}
    if key not in known:
        raise InputError(f"{FLAG} has the key '{key}'", f"one of {', '.join(sorted(known))}")
    shown = f"{FLAG} {key}={'/'.join(items)}"
    if not items:
        raise InputError(shown, "a value")
    if (key in CHOICES and len(items) > 1) or (key == "scale" and len(items) > 2):
        raise InputError(shown, "one value")
    if key in CHOICES:
        return items[0].lower()
    try:
        if key in ("size", "crop"):
            sides = [int(side) for item in items for side in item.lower().split("x")]
            if len(sides) > 2:
                raise InputError(shown, "one number, or HEIGHTxWIDTH")
            return (sides[0], sides[-1])
        numbers = tuple(map(float, items))
        if key == "letterbox":
            if len(numbers) != 1 or not numbers[0].is_integer():
                raise InputError(shown, "one whole number from 0 to 255, such as 114")
            return int(numbers[0])
        if key == "scale":
            return numbers[0] / (numbers[1] if len(numbers) > 1 else 1.0)
    except (ValueError, ZeroDivisionError):
        raise InputError(shown, "numbers") from None
    return numbers


def _known(key: str, value: object) -> object:
    """A value of ``to_dict`` that may have become JSON. Raises ``TypeError`` for another type."""
    listed = isinstance(value, list | tuple)
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if key in ("size", "crop"):
        fits = value is None or (listed and len(items) == 2 and all(type(i) is int for i in items))
    elif key == "letterbox":
        fits = value is None or type(value) is int
    elif key in CHOICES:
        fits = isinstance(value, str) or (value is None and key not in NEEDED)
    else:
        fits = listed == (key != "scale") and all(isinstance(i, int | float) for i in items)
    if not fits:
        raise TypeError(f"the processing's {key} is {value!r}")
    return items if listed else value


def _shown(values: Sequence[float], between: str = "/") -> str:
    return between.join(f"{value:.12g}" for value in values)
