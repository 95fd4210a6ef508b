"""What an image processor of the library does, as our own processing: the same, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from onnxpress.errors import InputError
from onnxpress.processing import ImageProcessing
from onnxpress.sources._transformers.library import quiet

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which the library's configs hold, and our names."""

SIZES = ((97, 61), (64, 301), (240, 240), (331, 250), (83, 90), (100, 71), (59, 88), (77, 120))
"""(height, width) of the images on which both are compared: odd, long, square, upright."""

EXACT = 1e-5
LEVELS = 2
"""torchvision scales integer pixels by other arithmetic than Pillow does: some levels of 255."""

MEAN_LEVELS = 0.5


def image_processing(processor: Any) -> ImageProcessing:
    """The same steps as ``processor``, compared with it on eight images before they are believed.

    Raises ``InputError`` where a step is none of ours, or the comparison fails.
    """
    made = _translated(processor)
    _compare(processor, made)
    return made


def _translated(processor: Any) -> ImageProcessing:
    def told(name: str, default: object = None) -> Any:
        return getattr(processor, name, default)

    size, crop = _sides(told("size")), _sides(told("crop_size"))
    resized, cropped = bool(told("do_resize")), bool(told("do_center_crop"))
    shortest = _edge(told("size")) if resized else None
    if resized and shortest is not None and told("crop_pct") is not None:
        # As ConvNeXT does: small images are cut out of larger ones, large ones are warped.
        side = (shortest, shortest)
        scaled = int(shortest / float(told("crop_pct")))
        size, crop, cropped = (scaled, scaled), side, True
        if shortest >= 384:
            size, crop, cropped = side, None, False
    elif resized and shortest is not None:
        if not cropped:
            raise _refused(
                processor, "scales images to several sizes", f"size={dict(told('size'))}"
            )
        size = (shortest, shortest)
    elif resized and cropped and size is not None and size[0] == size[1]:
        raise _refused(processor, "warps images before it crops them", f"size={size[0]}x{size[1]}")
    if resized and size is None:
        raise _refused(processor, "scales images in a way of its own", f"size={told('size')}")
    if cropped and crop is not None and size is not None and min(size) < max(crop):
        raise _refused(processor, "pads images to crop them", f"crop={crop[0]}x{crop[1]}")
    if told("do_pad") and not (resized and size is not None):
        raise _refused(processor, "pads images", "do_pad")
    normalised = bool(told("do_normalize", True))
    how = RESAMPLING.get(int(told("resample", 2) if told("resample") is not None else 2))
    if how is None:
        raise _refused(processor, "scales by another filter", f"resample={told('resample')}")
    return ImageProcessing(
        size=size if resized else None,
        crop=crop if cropped else None,
        mean=_numbers(told("image_mean")) if normalised else (0.0,),
        std=_numbers(told("image_std")) if normalised else (1.0,),
        layout="nchw",
        scale=float(told("rescale_factor", 1 / 255)) if told("do_rescale", True) else 1.0,
        channels="rgb",
        interpolation=how,
        crop_rounding="down",
    )


def _compare(processor: Any, made: ImageProcessing) -> None:
    """Raise ``InputError`` where both differ on images of noise over a slope."""
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        slope = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 56, (height, width, 3))
        image = Image.fromarray(slope.astype(np.uint8))
        with quiet():
            theirs = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
        ours = made.apply(image, 3, "nchw", "float32")
        if theirs.shape != ours.shape:
            found = f"makes {list(theirs.shape)} where our steps make {list(ours.shape)}"
            raise _refused(processor, found, f"an image of {width}×{height}")
        difference = np.abs(theirs.astype(np.float64) - ours)
        level = float(abs(made.scale) / np.abs(made.std).min())
        close = difference.max() <= EXACT * max(1.0, float(np.abs(theirs).max()))
        if _by_torchvision(processor) and not close:
            close = difference.max() <= LEVELS * level and difference.mean() <= MEAN_LEVELS * level
        if not close:
            found = f"differs from our steps by up to {difference.max():.3g}"
            raise _refused(processor, found, f"an image of {width}×{height}")


def _refused(processor: Any, found: str, where: str) -> InputError:
    return InputError(
        f"{type(processor).__name__} {found} ({where})",
        "images scaled to one size, or scaled by the shorter side and cropped",
        "say how images are prepared with --preprocess size=…,mean=…,std=…",
    )


def _by_torchvision(processor: Any) -> bool:
    return str(getattr(processor, "backend", "pil")) == "torchvision"


def _sides(value: Any) -> tuple[int, int] | None:
    sides = _mapping(value)
    height, width = sides.get("height"), sides.get("width")
    return (int(height), int(width)) if height and width else None


def _edge(value: Any) -> int | None:
    """The shorter side's length, where that alone is given."""
    sides = _mapping(value)
    given = {name for name, side in sides.items() if side}
    return int(sides["shortest_edge"]) if given == {"shortest_edge"} else None


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, int):
        return {"height": value, "width": value}
    return dict(value) if value else {}


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)
