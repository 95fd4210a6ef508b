"""``x · scale + shift`` in float64, read off the nodes that exporters write it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.values import constant, is_op

ARITHMETIC = ("Add", "Div", "Mul", "Sub")
EPSILON = 1e-5
"""ONNX's default."""


@dataclass(frozen=True)
class Affine:
    """One number per channel each, arrays of shape [channels] or [1]."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def none(cls) -> Affine:
        """``x``."""
        return cls(np.ones(1), np.zeros(1))

    def then(self, later: Affine) -> Affine:
        """What both do, one after the other."""
        with np.errstate(all="ignore"):
            return Affine(self.scale * later.scale, self.shift * later.scale + later.shift)

    @property
    def scales(self) -> bool:
        return bool(np.any(self.scale != 1))

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())


def data_of(node: ir.Node) -> ir.Value | None:
    """What ``node`` may scale and shift: the operand beside its constants; None for others."""
    if is_op(node, "Neg", "BatchNormalization"):
        return node.inputs[0]
    if not is_op(node, *ARITHMETIC) or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    if constant(right) is not None:
        return None if constant(left) is not None else left
    return right if constant(left) is not None and not is_op(node, "Div") else None


def affine(node: ir.Node, axis: int, rank: int | None, channels: int, version: int) -> Affine | str:
    """What ``node`` does to ``data_of(node)``, whose ``axis`` of ``rank`` has ``channels``.

    A text is the reason why it is no scale and shift of the channels.
    """
    if is_op(node, "Neg"):
        return Affine(-np.ones(1), np.zeros(1))
    if is_op(node, "BatchNormalization"):
        return _normalisation(node, axis, channels, version)
    side = 0 if node.inputs[1] is data_of(node) else 1
    given = constant(node.inputs[side])
    assert given is not None
    number = _per_channel(given, axis, rank, channels)
    if number is None:
        return f"its constant of shape {list(given.shape)} is not one number per channel"
    one, zero = np.ones(1), np.zeros(1)
    if is_op(node, "Add"):
        return Affine(one, number)
    if is_op(node, "Sub"):
        return Affine(one, -number) if side else Affine(-one, number)
    with np.errstate(all="ignore"):
        return Affine(1 / number if is_op(node, "Div") else number, zero)


def _per_channel(
    array: np.ndarray, axis: int, rank: int | None, channels: int
) -> np.ndarray | None:
    """``array`` as [channels] or [1]; None where it is more, or makes the other operand grow."""
    if array.ndim > 1 and (rank is None or array.ndim > rank):
        return None
    if array.size == 1 and (array.ndim == 0 or rank is not None):
        return array.reshape(1).astype(np.float64)
    from_the_end = rank - axis if rank is not None else 1
    if array.ndim < from_the_end or array.size != channels:
        return None
    return array.reshape(-1).astype(np.float64) if array.shape[-from_the_end] == channels else None


def _normalisation(node: ir.Node, axis: int, channels: int, version: int) -> Affine | str:
    if axis != 1:
        return "it normalises another dimension"
    if not is_inference(node, version):
        return "it normalises by the batch (training mode)"
    found = [constant(value) for value in node.inputs[1:5]]
    parameters = [array.astype(np.float64) for array in found if array is not None]
    if len(parameters) != 4:
        return "its parameters are not constant"
    if any(array.shape != (channels,) for array in parameters):
        return "the shapes do not fit each other"
    scale, shift, mean, variance = parameters
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", EPSILON))
        return Affine(factor, shift - mean * factor)


def is_inference(norm: ir.Node, version: int) -> bool:
    """Whether a BatchNormalization uses the statistics that it was given, one per channel."""
    if version >= 14:
        return norm.attributes.get_int("training_mode", 0) == 0
    if version < 7 and norm.attributes.get_int("is_test", 0) == 0:
        return False
    return norm.attributes.get_int("spatial", 1) == 1 and len(norm.outputs) == 1
