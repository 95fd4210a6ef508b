"""Outputs with a value for each pixel: an image, or classes."""

from __future__ import annotations

from onnxpress.signature import Signature, TensorSpec
from onnxpress.tasks._image_input import CHANNEL_AXIS, may_be

CLASS_WORDS = ("logit", "mask", "seg", "class", "label", "prob")
"""What an output of classes is often called."""


def is_map(spec: TensorSpec) -> bool:
    """Whether it is float of rank 4, or integers (batch, h, w)."""
    rank = len(spec.shape or ())
    floating = spec.dtype.startswith(("float", "bfloat"))
    return (rank == 4 and floating) or (rank == 3 and spec.dtype.startswith(("int", "uint")))


def is_image(spec: TensorSpec) -> bool:
    """Whether it is float or uint8 of rank 4."""
    rank = len(spec.shape or ())
    return rank == 4 and (spec.dtype.startswith(("float", "bfloat")) or spec.dtype == "uint8")


def may_be_image(signature: Signature) -> bool:
    """Whether the first map has as many channels as the image that goes in, and no class's name."""
    spec = next((spec for spec in signature.outputs if is_image(spec)), None)
    if spec is None or any(word in spec.name.lower() for word in CLASS_WORDS):
        return False
    taken = signature.inputs[0]
    assert spec.shape is not None
    assert taken.shape is not None
    return any(
        may_be(taken, layout) and spec.shape[axis] == taken.shape[axis]
        for layout, axis in CHANNEL_AXIS.items()
    )
