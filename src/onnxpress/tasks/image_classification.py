"""Image classification: images in, one score per class out."""

from __future__ import annotations

from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Task
from onnxpress.tasks._classes import ClassBound, is_scores
from onnxpress.tasks._image_input import ImageInput, has_image_input, takes_images


class ImageClassification(Task):
    """One image input of rank 4, and a float output (batch, classes) of logits or probabilities.

    The first output of that form counts; others are ignored.
    """

    def fits(self, signature: Signature, kind: str) -> bool:
        return kind == "images" and has_image_input(signature) and _scores(signature) is not None

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
        labels = processing.labels if processing else ()
        return _Bound(ImageInput(signature, processing), output, labels)


class _Bound(ClassBound):
    def __init__(self, images: ImageInput, output: TensorSpec, labels: tuple[str, ...]) -> None:
        super().__init__(output, labels)
        self.encoder = images


def _scores(signature: Signature) -> TensorSpec | None:
    return next((spec for spec in signature.outputs if is_scores(spec)), None)
