"""What a model's image input and the image processing say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.placement import Size
from onnxpress.processing import ImageProcessing, Processing, image_size, open_image
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.stacking import stack
from onnxpress.task import Encoder, Ready

INPUT_DTYPES = ("float32", "float16", "float64", "uint8")
CHANNEL_AXIS = {"nchw": 1, "nhwc": 3}


class ImageInput(Encoder):
    """Encodes images for a model of one image input. ``image`` is what its processing became.

    Raises ``InputError`` where the processing does not say enough.
    """

    def __init__(self, signature: Signature, processing: Processing | None) -> None:
        (spec,) = signature.inputs
        self.image = prepared(spec, processing.image if processing else None)
        self._signature = signature
        assert spec.shape is not None
        assert self.image.layout is not None
        channels = spec.shape[CHANNEL_AXIS[self.image.layout]]
        free = 1 if self.image.channels == "gray" else 3
        self._channels = channels if isinstance(channels, int) else free

    def prepare(self, records: Sequence[Record]) -> list[Ready]:
        """Images (path, bytes, uint8 pixels, Pillow's) become tensors, ready ones are kept.

        A mapping, or a float array of the input's shape without batch, is a ready tensor.
        """
        return [Ready(record, self._tensor(record).value) for record in records]

    def stack(self, ready: Sequence[Ready]) -> Feeds:
        return stack(self._signature, [replace(one.record, value=one.value) for one in ready])

    def _tensor(self, record: Record) -> Record:
        if is_ready(record):
            return record
        try:
            image, dtype = open_image(record.value), self._signature.inputs[0].dtype
            assert self.image.layout is not None
            array = self.image.apply(image, self._channels, self.image.layout, dtype)
        except SamplesError as error:
            if not record.name or record.name in error.found:
                raise
            raise SamplesError(
                f"'{record.name}': {error.found}", error.expected, error.fix
            ) from error
        return replace(record, value=array)


def sizes(records: Sequence[Record]) -> list[Size | None]:
    """(height, width) of each record's own image, None for a ready tensor."""
    return [None if is_ready(record) else image_size(record.value) for record in records]


def is_ready(record: Record) -> bool:
    """Whether it is a tensor already and no image."""
    value = record.value
    return isinstance(value, Mapping) or (isinstance(value, np.ndarray) and value.dtype != np.uint8)


def has_image_input(signature: Signature) -> bool:
    """Whether the one input takes images in some layout."""
    if len(signature.inputs) != 1:
        return False
    (spec,) = signature.inputs
    return takes_images(spec) and any(may_be(spec, name) for name in CHANNEL_AXIS)


def takes_images(spec: TensorSpec) -> bool:
    return spec.shape is not None and len(spec.shape) == 4 and spec.dtype in INPUT_DTYPES


def may_be(spec: TensorSpec, layout: str) -> bool:
    """Whether ``layout`` is possible: its channel dimension is 1 or 3, or free."""
    assert spec.shape is not None
    channels = spec.shape[CHANNEL_AXIS[layout]]
    return isinstance(channels, str) or channels in (1, 3)


def prepared(spec: TensorSpec, image: ImageProcessing | None) -> ImageProcessing:
    """``image`` with layout and size filled in from the input. Raises ``InputError``."""
    assert spec.shape is not None
    fixed = [isinstance(size, int) and size in (1, 3) for size in (spec.shape[1], spec.shape[3])]
    layout = image.layout if image else None
    if layout is None and fixed[0] != fixed[1]:
        layout = "nchw" if fixed[0] else "nhwc"
    sides = (spec.shape[2:4] if layout == "nchw" else spec.shape[1:3]) if layout else ("", "")
    static = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
    if image is None:
        keys = ["mean=…", "std=…"] if static else ["size=…", "mean=…", "std=…"]
        keys += [] if layout else ["layout=…"]
        raise InputError(
            f"input {spec}: this model takes images, but nothing says how to prepare them",
            f"--preprocess {','.join(keys)}",
            "use the values that the model was trained with",
        )
    if layout is None:
        raise InputError(
            f"input {spec} does not tell where its channels are",
            "layout=nchw or layout=nhwc",
            "add layout= to --preprocess",
        )
    if not may_be(spec, layout):
        raise InputError(f"input {spec} with layout={layout}", "1 or 3 channels", "change layout=")
    size = image.crop or image.size
    if size is None and static is None:
        raise InputError(f"input {spec} takes any image size", "--preprocess size=…", "add size=")
    if size is None:
        return replace(image, layout=layout, size=static)  # type: ignore[arg-type]
    if any(isinstance(want, int) and want != have for want, have in zip(sides, size, strict=True)):
        key = "crop" if image.crop else "size"
        raise InputError(
            f"--preprocess {key}={size[0]}x{size[1]}",
            f"{key}={sides[0]}x{sides[1]}, as input {spec} has it",
        )
    return replace(image, layout=layout)
