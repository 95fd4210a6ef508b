"""Weights of 4 or 8 bits with a scale for each block of values: x ≈ (q - z) · s.

The arithmetic of ONNX Runtime's ``MatMulNBits`` (its "ContribOperators.md") and of
``DequantizeLinear`` with a ``block_size``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpress.least_error import fitted


@dataclass(frozen=True)
class Blocks:
    """A weight [K, N] in blocks along K, the last of which is filled up with zeros.

    ``integers`` uint8 [N, blocks, size], ``scale`` float32 [N, blocks], ``zero`` uint8
    [N, blocks], 2^(bits - 1) everywhere where the blocks are symmetric.
    """

    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray

    def restored(self, rows: int) -> np.ndarray:
        """The weight [K, N] that is computed with."""
        away = self.integers.astype(np.float32) - self.zero[..., None]
        values = (away * self.scale[..., None]).reshape(len(self.scale), -1)
        return np.ascontiguousarray(values.T[:rows])


def quantize_blocks(
    weight: np.ndarray, size: int, bits: int, symmetric: bool, scales: str
) -> Blocks:
    """``weight`` float32 [K, N] in blocks of ``size``; ``scales`` is ``minmax`` or ``mse``."""
    rows, columns = weight.shape
    count = -(-rows // size)
    values = np.zeros((columns, count * size), np.float32)
    values[:, :rows] = weight.T
    groups = values.reshape(-1, size)
    scale, zero = _symmetric(groups, bits) if symmetric else _asymmetric(groups, bits)
    top = np.float32(2**bits - 1)
    if scales == "mse":
        scale = fitted(groups, scale, -zero, top - zero)
    groups /= scale[:, None]
    np.rint(groups, out=groups)
    groups += zero[:, None]
    np.clip(groups, 0, top, out=groups)
    return Blocks(
        groups.astype(np.uint8).reshape(columns, count, size),
        scale.reshape(columns, count),
        zero.astype(np.uint8).reshape(columns, count),
    )


def packed(integers: np.ndarray, bits: int) -> np.ndarray:
    """uint8 numbers of ``bits`` bits along the last axis; of two in a byte the first is low."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros_like(integers[..., :1])], axis=-1)
    pairs: np.ndarray = integers[..., 0::2] | integers[..., 1::2] << 4
    return pairs


def _symmetric(groups: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The value that is farthest from 0 becomes the lowest integer, which has no counterpart."""
    middle = np.float32(2 ** (bits - 1))
    low, high = groups.min(axis=1), groups.max(axis=1)
    farthest = np.where(high > -low, high, low)
    return _usable(farthest / -middle), np.full(len(groups), middle, np.float32)


def _asymmetric(groups: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """From the lowest value to the highest, 0 among them."""
    top = np.float32(2**bits - 1)
    low, high = np.minimum(groups.min(axis=1), 0), np.maximum(groups.max(axis=1), 0)
    scale = _usable((high - low) / top)
    return scale, np.clip(np.rint(-low / scale), 0, top)


def _usable(scale: np.ndarray) -> np.ndarray:
    """1 for blocks of zeros."""
    kept = np.abs(scale) > np.finfo(np.float32).tiny
    return np.where(kept, scale, np.float32(1)).astype(np.float32)
