"""Processing: how a raw record becomes the tensors of a model. Frozen and JSON-able."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxpress.errors import InputError, SamplesError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
"""Larger images are refused from their header, before they are decoded."""

LAYOUTS = ("nchw", "nhwc")
CHANNELS = ("rgb", "bgr", "gray")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
FLAG = "--preprocess"


@dataclass(frozen=True)
class ImageProcessing:
    """An image as a float32 array: ``(pixel · scale - mean) / std`` for each channel.

    ``size`` is (height, width). With ``crop`` the shorter side is scaled to ``size`` and the
    centre of (height, width) ``crop`` is cut out, as torchvision's Resize and CenterCrop do;
    without it the image is scaled to exactly ``size``. ``layout`` and ``channels`` None are read
    off the model's input. For a uint8 input the pixels stay as they are.
    """

    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str | None = None
    scale: float = 1 / 255
    channels: str | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.layout not in (None, *LAYOUTS):
            raise InputError(f"{FLAG} layout={self.layout}", f"one of {', '.join(LAYOUTS)}")
        if self.channels not in (None, *CHANNELS):
            raise InputError(f"{FLAG} channels={self.channels}", f"one of {', '.join(CHANNELS)}")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"{FLAG} interpolation={self.interpolation}", f"one of {', '.join(INTERPOLATIONS)}"
            )
        if any(value == 0 or not np.isfinite(value) for value in self.std):
            raise InputError(f"{FLAG} std={_shown(self.std)}", "numbers other than 0")
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None and min(value) < 1:
                raise InputError(f"{FLAG} {name}={_shown(value)}", "at least one pixel")

    def apply(self, image: Image.Image, channels: int, layout: str, dtype: str) -> np.ndarray:
        """One image as (channels, H, W) or (H, W, channels), float32, or uint8 unscaled.

        Raises ``InputError`` where mean or std do not fit the number of channels.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise InputError(
                    f"{FLAG} {name} has {len(values)} values", f"1 or {channels}, one per channel"
                )
        array = np.asarray(self._resized(_mode(image, self.channels, channels)))
        array = array.reshape(*array.shape[:2], channels)
        if self.channels == "bgr":
            array = array[:, :, ::-1]
        if dtype != "uint8":
            mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
            array = (array.astype(np.float32) * np.float32(self.scale) - mean) / std
            array = array.astype(np.dtype(dtype))
        return np.ascontiguousarray(array.transpose(2, 0, 1) if layout == "nchw" else array)

    def _resized(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        filters = {
            "nearest": Image.Resampling.NEAREST,
            "bilinear": Image.Resampling.BILINEAR,
            "bicubic": Image.Resampling.BICUBIC,
            "lanczos": Image.Resampling.LANCZOS,
        }
        how = filters[self.interpolation]
        if self.crop is None:
            if self.size is None or (image.height, image.width) == self.size:
                return image
            return image.resize((self.size[1], self.size[0]), how)
        if self.size is not None:
            height, width = _shorter_side(image, self.size)
            image = image.resize((width, height), how)
        return _centre(image, self.crop)


@dataclass(frozen=True)
class Processing:
    """What a bundle needs to know to prepare raw records; ``labels`` are the classes' names."""

    image: ImageProcessing | None = None
    labels: tuple[str, ...] = ()

    def with_labels(self, labels: Sequence[str]) -> Processing:
        return replace(self, labels=tuple(labels))

    def to_dict(self) -> dict[str, object]:
        return {"image": asdict(self.image) if self.image else None, "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Processing:
        """Raises ``InputError`` for keys that this version does not know."""
        unknown = set(data) - {"image", "labels"}
        image, labels = data.get("image"), data.get("labels") or ()
        if isinstance(image, Mapping):
            unknown |= set(image) - {field.name for field in fields(ImageProcessing)}
        if unknown:
            raise InputError(
                f"processing has the keys {', '.join(sorted(unknown))}",
                "keys of this version",
                "upgrade onnxpress",
            )
        assert isinstance(labels, Sequence)
        if not isinstance(image, Mapping):
            return cls(None, tuple(map(str, labels)))
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in image.items()}
        processing = ImageProcessing(**values)  # type: ignore[arg-type]  # checked by it
        return cls(processing, tuple(map(str, labels)))

    @classmethod
    def parse(cls, text: str) -> Processing:
        """``size=224,crop=224,mean=0.485,0.456,0.406,std=…,layout=nchw``.

        Commas separate both keys and the items of a list; ``/``, ``:`` and spaces separate items
        too. Raises ``InputError`` naming the key.
        """
        pairs: list[list[str]] = []
        for part in filter(None, (part.strip(" []()") for part in text.split(","))):
            key, equals, value = part.partition("=")
            if equals:
                pairs.append([key.strip().lower(), value.strip(" []()")])
            elif pairs:
                pairs[-1].append(part)
            else:
                raise InputError(f"{FLAG} {text}", "KEY=VALUE,…, such as size=224,mean=0.5,std=0.5")
        if not pairs:
            raise InputError(f"{FLAG} is empty", "KEY=VALUE,…, such as size=224,mean=0.5,std=0.5")
        values: dict[str, object] = {}
        for key, *texts in pairs:
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
            # Pillow warns of images so large that we refuse them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise SamplesError(
                    f"{name} has {image.width}×{image.height} pixels", f"at most {MAX_PIXELS:,}"
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise SamplesError(f"{name} does not exist", "an image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SamplesError(
            f"{name} cannot be read as an image ({told})", "a whole image"
        ) from error


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


def _shorter_side(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) with the shorter side at ``size``; both sides are given where they differ."""
    if size[0] != size[1]:
        return size
    short, long = sorted((image.height, image.width))
    other = int(size[0] * long / short)
    return (size[0], other) if image.height <= image.width else (other, size[0])


def _centre(image: Image.Image, crop: tuple[int, int]) -> Image.Image:
    """The centre of the image, black where it is smaller; rounds as torchvision does."""
    from PIL import ImageOps

    height, width = crop
    wide, high = max(0, width - image.width), max(0, height - image.height)
    if wide or high:
        border = (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2)
        image = ImageOps.expand(image, border, 0)
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


def _value(key: str, items: list[str]) -> object:
    known = {field.name for field in fields(ImageProcessing)}
    if key not in known:
        raise InputError(f"{FLAG} has the key '{key}'", f"one of {', '.join(sorted(known))}")
    shown = f"{FLAG} {key}={'/'.join(items)}"
    if not items:
        raise InputError(shown, "a value")
    if key in ("layout", "channels", "interpolation"):
        return items[0].lower()
    try:
        if key in ("size", "crop"):
            sides = [int(side) for item in items for side in item.lower().split("x")]
            if len(sides) > 2:
                raise InputError(shown, "one number, or HEIGHTxWIDTH")
            return (sides[0], sides[-1])
        numbers = tuple(_number(item) for item in items)
        if key == "scale":
            return numbers[0] / (numbers[1] if len(numbers) > 1 else 1.0)
    except (ValueError, ZeroDivisionError):
        raise InputError(shown, "numbers") from None
    return numbers


def _number(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(text)
    return value


def _shown(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)
