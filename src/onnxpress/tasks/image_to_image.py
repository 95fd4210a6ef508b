"""Image to image: super-resolution, denoising, enhancement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxpress.errors import InputError, SamplesError
from onnxpress.processing import ImageProcessing, Processing, open_image, pixels
from onnxpress.samples import Label, Record
from onnxpress.signature import Signature, TensorSpec
from onnxpress.similarity import MIN_SAMPLES, Concordance
from onnxpress.task import Bound, Prediction, Quality, Scored, Task
from onnxpress.tasks._groups import Groups
from onnxpress.tasks._image_input import CHANNEL_AXIS, ImageInput, has_image_input
from onnxpress.tasks._image_output import is_image, may_be_image

ROUNDING = 1 / 12
"""The mean squared error of rounding to whole levels: less than that cannot be seen, nor saved."""


class ImageToImage(Task):
    """One image input of rank 4, and one of rank 4 out, of the same layout and of any size.

    What prepares the input also says what the output means: ``pixel = (y · std + mean) / scale``,
    so that without mean and std 0 is black and 1 white. uint8 outputs are pixels. The first output
    of rank 4 counts.
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "images" and has_image_input(signature) and may_be_image(signature)

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = next((spec for spec in signature.outputs if is_image(spec)), None)
        if len(signature.inputs) != 1 or output is None:
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                "one image of rank 4 in, and one out",
                "choose another --task",
            )
        images = ImageInput(signature, processing)
        assert images.image.layout is not None
        assert output.shape is not None
        channels = output.shape[CHANNEL_AXIS[images.image.layout]]
        if channels not in (1, 3):
            found = f"output {output} with layout={images.image.layout}"
            raise InputError(found, "1 or 3 channels", "choose another --task")
        return _Bound(images, output, channels)


class _Bound(Bound):
    pictures = True

    def __init__(self, images: ImageInput, output: TensorSpec, channels: int) -> None:
        self.encoder = self._images = images
        self._output, self._channels = output, channels

    def truth(self, record: Record) -> Label | None:
        """The target image: uint8 (H, W, C), from its file or from uint8 pixels."""
        if record.label is None:
            return None
        if isinstance(record.label, int | float | str):
            found = f"the label of '{record.name}' is {record.label!r}"
            raise SamplesError(found, "the target image: its Path or uint8 pixels")
        target = pixels(open_image(record.label))
        target = target[:, :, np.newaxis] if target.ndim == 2 else target
        if target.shape[2] != self._channels:
            raise SamplesError(
                f"the target of '{record.name}' has {target.shape[2]} channels",
                f"{self._channels}, as output {self._output} has",
                "convert it, or choose another --task",
            )
        return target

    def decode(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]
    ) -> list[Prediction]:
        """``{"size": [H, W], "channels": C}``; the image itself is in ``rows``."""
        return [self.told(row) for row in self.rows(outputs, records)]

    def told(self, row: object) -> Prediction:
        image = np.asarray(row)
        return {"size": list(image.shape[:2]), "channels": image.shape[2]}

    def rows(self, outputs: Mapping[str, np.ndarray], records: Sequence[Record]) -> list[object]:
        """uint8 (H, W, C) each, RGB or gray; what is not a number is black."""
        levels = self._levels(outputs[self._output.name])
        return list(np.nan_to_num(levels, nan=0.0).round().clip(0, 255).astype(np.uint8))

    def score(self, batches: Iterable[Scored]) -> Quality:
        """With labels, PSNR divided by the origin's; without, the concordance correlation.

        PSNR is the mean of the images', in dB on levels of 0 to 255; an error below that of
        rounding to whole levels counts as that one, 58.9 dB. Only labelled records count where
        there are any. The intervals are jackknifes over groups of samples.
        """
        labelled, similar = Groups(3), Concordance(self._output.name)
        rows = 0
        for batch in batches:
            rows += len(batch.labels)
            reference = batch.reference[self._output.name]
            candidate = batch.outputs.get(self._output.name, np.empty(0))
            similar.add(candidate, reference)
            if candidate.shape != reference.shape:
                candidate = np.full(reference.shape, np.nan)
            mine, theirs = self._levels(candidate), self._levels(reference)
            for a, r, label in zip(mine, theirs, batch.labels, strict=True):
                if label is not None:
                    assert isinstance(label, np.ndarray)
                    labelled.add(np.array([1.0, self._psnr(a, label), self._psnr(r, label)]))
        if not rows:
            raise SamplesError("there are no samples to score with", "at least 8")
        if labelled.n:
            n, candidate_db, origin_db = labelled.total()
            return Quality(
                _ratio(labelled.total()),
                labelled.lower(_ratio),
                labelled.n,
                "PSNR / origin's PSNR",
                float(origin_db / n),
                float(candidate_db / n),
            )
        result = similar.result()
        proves = "" if result.varies else ", which proves nothing: the origin gives one image"
        low = result.low if result.varies else min(result.low, 0.0)
        return Quality(result.value, low, result.n, f"{result.metric}{proves}")

    def needed(self, floor: float) -> int | None:
        return MIN_SAMPLES if floor < 1 else None

    def _psnr(self, image: np.ndarray, target: np.ndarray) -> float:
        """In dB; 0 for an image that is not a number anywhere."""
        if image.shape != target.shape:
            raise SamplesError(
                f"a target is {target.shape[0]}×{target.shape[1]} pixels",
                f"{image.shape[0]}×{image.shape[1]}, as the model's output has",
                "give images of the size that the model takes, and targets of that it gives",
            )
        if not np.isfinite(image).all():
            return 0.0
        error = float(((image.clip(0, 255) - target) ** 2).mean())
        return 10 * float(np.log10(255**2 / max(error, ROUNDING)))

    def _levels(self, output: np.ndarray) -> np.ndarray:
        """float64 (batch, H, W, C) on the scale of 0 to 255, RGB or gray."""
        how: ImageProcessing = self._images.image
        levels = output.astype(np.float64)
        if how.layout == "nchw":
            levels = levels.transpose(0, 2, 3, 1)
        if output.dtype != np.uint8:
            levels = (levels * np.array(how.std) + np.array(how.mean)) / how.scale
        return levels[..., ::-1] if how.channels == "bgr" else levels


def _ratio(sums: np.ndarray) -> float:
    _, candidate, origin = sums
    return float(candidate / origin) if origin > 0 else 0.0
