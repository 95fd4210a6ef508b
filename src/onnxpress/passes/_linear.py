"""Convolutions and products with constant weights: how their channels lie in the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.passes._affine import Affine
from onnxpress.values import constant, constant_tensor, is_op

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOATS = (
    ir.DataType.BFLOAT16,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
)
LEAST = {"bfloat16": 2.0**-126, "float16": 2.0**-14, "float32": 2.0**-126, "float64": 2.0**-1022}
"""Type → its least positive number of full precision."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``node`` with its weight as [groups, a, b, taps]; a, b are inputs and outputs of a group.

    ``outputs_first`` says that a are the outputs. ``rank`` is that of what goes in and comes out,
    ``axis`` is where its channels are; of a MatMul, both may be known from the end only (None and
    -1).
    """

    node: ir.Node
    weight: np.ndarray
    groups: int
    inputs: int
    outputs: int
    outputs_first: bool
    rank: int | None
    axis: int

    @classmethod
    def of(cls, node: ir.Node, rank: int | None = None) -> Linear | str:
        """``rank`` is that of what a MatMul reads. A text is the reason why there is none."""
        tensor, weight = constant_tensor(node.inputs[1]), constant(node.inputs[1])
        if tensor is None or weight is None:
            return "its weights are not constant"
        groups = node.attributes.get_int("group", 1)
        turned = bool(node.attributes.get_int("transB", 0))
        product = is_op(node, "Gemm", "MatMul")
        if tensor.dtype not in FLOATS:
            return "its weights are no numbers with a fraction"
        if not weight.size or (weight.ndim == 2) != product or weight.shape[0] % groups:
            return "the shapes do not fit each other"
        one, two = weight.shape[:2]
        if product:
            rank = 2 if is_op(node, "Gemm") else rank
            axis = -1 if rank is None else rank - 1
            sizes = (two, one) if turned else (one, two)
            return cls(node, weight, 1, *sizes, turned, rank, axis)
        if is_op(node, "Conv"):
            return cls(node, weight, groups, two * groups, one, True, weight.ndim, 1)
        return cls(node, weight, groups, one, two * groups, False, weight.ndim, 1)

    @property
    def bias(self) -> ir.Value | None:
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def takes_bias(self) -> bool:
        return not is_op(self.node, "MatMul")

    @property
    def pads(self) -> bool:
        """Whether a border that is not there counts as zeros."""
        if not is_op(self.node, "Conv"):
            return is_op(self.node, "ConvTranspose")
        automatic = self.node.attributes.get_string("auto_pad", "NOTSET")
        pads = self.node.attributes.get("pads")
        return automatic in ("SAME_UPPER", "SAME_LOWER") or (
            automatic == "NOTSET" and pads is not None and any(pads.as_ints())
        )

    def shift(self) -> np.ndarray | None:
        """The bias as [outputs] in float64; None where it is not constant, or is per row."""
        if self.bias is None:
            return np.zeros(self.outputs)
        array = constant(self.bias)
        sizes = ((self.outputs,), (1, self.outputs), (1, 1), (1,), ())
        if array is None or array.shape not in sizes:
            return None
        beta = self.node.attributes.get_float("beta", 1.0) if is_op(self.node, "Gemm") else 1.0
        return np.broadcast_to(array.astype(np.float64).reshape(-1) * beta, self.outputs)

    def by_output(self) -> np.ndarray:
        """The weight as [groups, outputs, inputs, taps]; both numbers are those of a group."""
        split = self._split(self.weight)
        return split if self.outputs_first else split.swapaxes(1, 2)

    def scaled_outputs(self, scale: np.ndarray) -> np.ndarray:
        """The weight with each output times its number, in float64."""
        return self._scaled(scale, self.outputs, self.outputs_first)

    def scaled_inputs(self, scale: np.ndarray) -> np.ndarray:
        """The weight with each input times its number, in float64."""
        return self._scaled(scale, self.inputs, not self.outputs_first)

    def vanishes(self, scaled: np.ndarray, *, inputs: bool) -> bool:
        """Whether all new weights of an input or of an output are below the normal numbers.

        ``scaled`` are the new ones in float64. Lesser ones beside a normal one lose no more than
        rounding takes; outputs and inputs that are as small, or zero, already stay what they are.
        """
        axes = (2, 3) if self.outputs_first != inputs else (1, 3)
        least = LEAST[self.weight.dtype.name]
        old, new = (
            np.abs(self._split(array.astype(np.float64).reshape(self.weight.shape))).max(axis=axes)
            for array in (self.weight, scaled)
        )
        return bool(((old >= least) & (new < least) & (new > 0)).any())

    def moved(self, shift: np.ndarray) -> np.ndarray:
        """What ``shift``, added to the inputs, adds to the outputs where nothing is padded."""
        numbers = np.broadcast_to(shift, self.inputs).reshape(self.groups, -1)
        order = "gokt,gk->go" if self.outputs_first else "gkot,gk->go"
        alpha = self.node.attributes.get_float("alpha", 1.0) if is_op(self.node, "Gemm") else 1.0
        split = self._split(self.weight.astype(np.float64))
        return np.asarray(np.einsum(order, split, numbers).reshape(-1) * alpha)

    def _scaled(self, scale: np.ndarray, count: int, first: bool) -> np.ndarray:
        numbers = np.broadcast_to(scale, count).reshape(self.groups, -1)
        numbers = numbers[:, :, None, None] if first else numbers[:, None, :, None]
        with np.errstate(all="ignore"):
            scaled = self._split(self.weight.astype(np.float64)) * numbers
        return np.asarray(scaled.reshape(self.weight.shape))

    def _split(self, weight: np.ndarray) -> np.ndarray:
        if is_op(self.node, "MatMul", "Gemm"):
            return weight[None, :, :, None]
        one, two = weight.shape[:2]
        return weight.reshape(self.groups, one // self.groups, two, -1)


def added(node: ir.Node, size: int) -> tuple[ir.Node, int] | None:
    """Where a float32 constant [size] is added to the product of ``node``: a node and its input.

    Of a Gemm its third input; of a MatMul an input of the Add that alone reads what it makes.
    """
    if is_op(node, "Gemm"):
        user, index = node, 2
    else:
        output = node.outputs[0]
        uses = list(output.uses())
        if len(uses) != 1 or not is_op(uses[0].node, "Add") or output.is_graph_output():
            return None
        user, index = uses[0].node, 1 - uses[0].idx
    array = constant(user.inputs[index]) if len(user.inputs) > index else None
    fits = array is not None and array.dtype == np.float32 and array.shape == (size,)
    return (user, index) if fits else None


def after(linear: Linear, change: Affine) -> tuple[np.ndarray, np.ndarray] | str:
    """Weight and bias, in float64, of ``linear`` with ``change`` after it."""
    bias = linear.shift()
    if bias is None:
        return "its bias is not constant, or not one number per channel"
    with np.errstate(all="ignore"):
        return linear.scaled_outputs(change.scale), bias * change.scale + change.shift


def before(linear: Linear, change: Affine) -> tuple[np.ndarray, np.ndarray | None] | str:
    """Weight and bias, in float64, of ``linear`` with ``change`` before it.

    The bias is None where it stays.
    """
    weight = linear.scaled_inputs(change.scale)
    if not change.shifts:
        return weight, None
    bias = linear.shift()
    if bias is None:
        return "its bias is not constant, or not one number per channel"
    return weight, linear.moved(change.shift) + bias
