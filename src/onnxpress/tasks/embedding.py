"""Embedding: images in, one vector each out."""

from __future__ import annotations

from onnxpress.errors import InputError
from onnxpress.processing import Processing
from onnxpress.signature import Signature, TensorSpec
from onnxpress.task import Bound, Task
from onnxpress.tasks._image_input import ImageInput, has_image_input, takes_images
from onnxpress.tasks._vectors import VectorBound, is_vector


class Embedding(Task):
    """One image input of rank 4, and a float output (batch, dimensions).

    An output whose name tells it (``embedding``, ``image_embeds``, …) counts before others, and
    makes this the natural task: by its shape alone it could as well be scores of classes.
    """

    uses_labels = False

    def fits(self, signature: Signature, kind: str) -> bool:
        named = any(map(_is_named, signature.outputs))
        return kind == "images" and named and has_image_input(signature)

    def bind(self, signature: Signature, processing: Processing | None) -> Bound:
        output = _vector(signature)
        if len(signature.inputs) != 1 or not takes_images(signature.inputs[0]) or output is None:
            raise InputError(
                f"the model goes from {', '.join(map(str, signature.inputs))} to "
                f"{', '.join(map(str, signature.outputs))}",
                "one image input of rank 4, and a float output (batch, dimensions)",
                "choose another --task",
            )
        return _Bound(ImageInput(signature, processing), output)


class _Bound(VectorBound):
    def __init__(self, images: ImageInput, output: TensorSpec) -> None:
        super().__init__(output)
        self.encoder = images


def _vector(signature: Signature) -> TensorSpec | None:
    vectors = sorted(filter(is_vector, signature.outputs), key=lambda spec: not _is_named(spec))
    return next(iter(vectors), None)


def _is_named(spec: TensorSpec) -> bool:
    return "embed" in spec.name.lower() and is_vector(spec)
