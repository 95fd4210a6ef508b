"""Image classification: images in, one score per class out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing, open_image
from onnxpress.samples import Record
from onnxpress.signature import Feeds, Signature, TensorSpec
from onnxpress.stacking import stack
from onnxpress.task import Bound, Task
from onnxpress.tasks._classes import ClassBound, is_scores
from onnxpress.tasks._image_input import CHANNEL_AXIS, may_be, prepared, takes_images


class ImageClassification(Task):
    """One image input of rank 4, and a float output (batch, classes) of logits or probabilities.

    The first output of that form counts; others are ignored.
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        if kind != "images" or len(signature.inputs) != 1 or _scores(signature) is None:
            return False
        spec = signature.inputs[0]
        return takes_images(spec) and any(may_be(spec, name) for name in CHANNEL_AXIS)

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        """The image size is the processing's, or the input's where that is fixed."""
        output = _scores(signature)
        if len(signature.inputs) != 1 or not takes_images(signature.inputs[0]) or output is None:
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                "one image input of rank 4, and a float output (batch, classes) of 2 or more",
                "choose another --task",
            )
        image = prepared(signature.inputs[0], processing.image if processing else None)
        labels = processing.labels if processing else ()
        return _Bound(signature, image, output, labels)


class _Bound(ClassBound):
    def __init__(
        self,
        signature: Signature,
        image: ImageProcessing,
        output: TensorSpec,
        labels: tuple[str, ...],
    ) -> None:
        super().__init__(output, labels)
        self._signature, self._image = signature, image
        assert image.layout is not None
        spec, self._layout = signature.inputs[0], image.layout
        assert spec.shape is not None
        channels = spec.shape[CHANNEL_AXIS[self._layout]]
        free = 1 if image.channels == "gray" else 3
        self._channels = channels if isinstance(channels, int) else free

    def encode(self, records: Sequence[Record]) -> Feeds:
        """Images (path, bytes, uint8 pixels, Pillow's) are prepared, ready tensors are kept.

        A mapping, or a float array of the input's shape without batch, is a ready tensor.
        """
        return stack(self._signature, [self._tensor(record) for record in records])

    def _tensor(self, record: Record) -> Record:
        value: object = record.value
        if isinstance(value, Mapping) or (
            isinstance(value, np.ndarray) and value.dtype != np.uint8
        ):
            return record
        try:
            image, dtype = open_image(value), self._signature.inputs[0].dtype
            array = self._image.apply(image, self._channels, self._layout, dtype)
        except SamplesError as error:
            if not record.name or record.name in error.found:
                raise
            raise SamplesError(
                f"'{record.name}': {error.found}", error.expected, error.fix
            ) from error
        return replace(record, value=array)


def _scores(signature: Signature) -> TensorSpec | None:
    return next((spec for spec in signature.outputs if is_scores(spec)), None)
