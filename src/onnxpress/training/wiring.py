"""From the float graph and the quantised one to the network that is trained between them."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnxpress.errors import SourceError
from onnxpress.model import Model
from onnxpress.quantization import Grid
from onnxpress.training import grids
from onnxpress.training.attributes import Attributes, Unsupported
from onnxpress.training.grids import TrainedGrid
from onnxpress.training.network import Network
from onnxpress.training.operators import OPERATORS
from onnxpress.training.steps import Compute, QuantizeActivation, QuantizeBias, QuantizeWeight, Step
from onnxpress.values import STANDARD, constant, is_op, name_of

LEARNED = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
"""Operator → which of its inputs are trained where they are float32 constants."""

MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""What keeps values as they are: behind it the same grid stays one grid, as engines want it."""


def wired(
    original: Model,
    model: Model | None = None,
    bits: int = 8,
    named: Collection[str] = (),
    frozen: Collection[str] = (),
) -> Network:
    """The network of ``model``, which is ``original`` with its weights and activations quantised.

    Without ``model`` it computes in float. Trained are the weights of ``LEARNED`` and the float
    constants that ``named`` names, unless they are ``frozen``; the scales of a frozen weight are
    too. Raises ``SourceError`` for an operator that has no gradient here.
    """
    return _Wiring(original, model or original, bits, named, frozen).network()


class _Wiring:
    """What has been found so far, node after node."""

    def __init__(
        self,
        original: Model,
        model: Model,
        bits: int,
        named: Collection[str],
        frozen: Collection[str],
    ) -> None:
        self._bits, self._named, self._frozen = bits, named, frozen
        self._originals = {name_of(node): node for node in original.ir.graph}
        self._graph = model.ir.graph
        self._steps: list[Step] = []
        self._grids: dict[str, TrainedGrid] = {}
        self._trained: dict[str, np.ndarray] = {}
        self._fixed: dict[str, np.ndarray] = {}
        self._same: dict[ir.Value, str] = {}
        self._activations: dict[ir.Value, tuple[str, Grid]] = {}
        self._weights: dict[ir.Value, str] = {}

    def network(self) -> Network:
        for node in self._graph:
            if is_op(node, "QuantizeLinear"):
                self._activation(node)
            elif is_op(node, "DequantizeLinear"):
                self._dequantize(node)
            elif is_op(node, "Constant"):
                self._keep(node.outputs[0], learned=False)
            else:
                self._compute(node)
        for value in self._graph.outputs:
            if value.is_initializer():
                self._keep(value, learned=False)
        inputs = [str(v.name) for v in self._graph.inputs if not v.is_initializer()]
        outputs = [self._name(value) for value in self._graph.outputs]
        return Network(inputs, outputs, self._steps, self._trained, self._fixed, self._grids)

    def _name(self, value: ir.Value | None) -> str:
        """What the steps call ``value``: behind a DequantizeLinear it is what was quantised."""
        return "" if value is None else self._same.get(value, str(value.name))

    def _compute(self, node: ir.Node) -> None:
        known = node.domain in STANDARD and node.op_type in OPERATORS
        try:
            if not known:
                raise Unsupported("no gradient")
            given = Attributes.of(node)
        except Unsupported as error:
            op = node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"
            raise SourceError(
                f"node '{name_of(node)}' is a {op} with {error}, which cannot be trained here",
                "operators that onnxpress has gradients of",
                "quantise the model after training: onnxpress quantize",
            ) from error
        if is_op(node, "Split") and len(node.inputs) < 2 and "num_outputs" not in given.values:
            given = Attributes({**given.values, "num_outputs": len(node.outputs)})
        for index, value in enumerate(node.inputs):
            if value is not None:
                self._constant(value, node, index)
        inputs = tuple(self._name(value) for value in node.inputs)
        outputs = tuple(str(value.name) for value in node.outputs)
        self._steps.append(Compute(inputs, outputs, node.op_type, given))

    def _constant(self, value: ir.Value, reader: ir.Node, index: int) -> None:
        if value.is_initializer():
            self._keep(value, learned=index in LEARNED.get(reader.op_type, ()))

    def _keep(self, value: ir.Value, *, learned: bool) -> None:
        """``value`` as a parameter or as a buffer; a parameter for one reader is one for all."""
        name, array = str(value.name), constant(value)
        if array is None or name in self._trained:
            return
        floats = array.dtype == np.float32 and array.ndim > 0 and value.is_initializer()
        if floats and (learned or name in self._named) and name not in self._frozen:
            self._fixed.pop(name, None)
            self._trained[name] = array
        else:
            self._fixed.setdefault(name, array)

    def _activation(self, node: ir.Node) -> None:
        source, scale, zero = node.inputs
        assert source is not None
        assert scale is not None
        assert zero is not None
        self._constant(source, node, 0)
        grid = Grid(_numbers(scale), _numbers(zero))
        key = self._moved(source, grid)
        if key is None:
            key = self._add_grid(str(source.name), grids.activation(grid, *_ends(source)))
        self._activations[node.outputs[0]] = key, grid
        ends = (self._name(source),), (str(node.outputs[0].name),)
        self._steps.append(QuantizeActivation(*ends, key, str(scale.name), str(zero.name)))

    def _moved(self, value: ir.Value, grid: Grid) -> str | None:
        """The grid that ``value`` was on before it was only moved, if it is the same one."""
        producer = value.producer()
        while producer is not None and is_op(producer, *MOVES) and producer.inputs[0] is not None:
            value = producer.inputs[0]
            producer = value.producer()
        if producer is None or not is_op(producer, "DequantizeLinear"):
            return None
        quantized = producer.inputs[0]
        key, other = self._activations.get(quantized, ("", grid)) if quantized else ("", grid)
        equal = other.scale == grid.scale and other.zero_point == grid.zero_point
        return key if key and equal else None

    def _dequantize(self, node: ir.Node) -> None:
        source, scale, output = node.inputs[0], node.inputs[1], node.outputs[0]
        assert source is not None
        assert scale is not None
        if source in self._activations:
            self._same[output] = str(source.name)
            return
        reader, index = next((use.node, use.idx) for use in output.uses())
        old = self._originals[name_of(reader)].inputs[index]
        assert old is not None
        self._keep(old, learned=True)
        names = str(source.name), str(scale.name)
        outputs = (str(output.name),)
        if index == 1:
            axis = node.attributes.get_int("axis", 1)
            grid = grids.weight(_numbers(old), _numbers(scale), axis, self._bits)
            grid.growth.requires_grad_(str(old.name) in self._trained)
            key = self._add_grid(str(output.name), grid)
            self._weights[output] = key
            self._steps.append(QuantizeWeight((), outputs, str(old.name), key, *names))
            return
        data, weight = reader.inputs[0], reader.inputs[1]
        assert data is not None
        assert weight is not None
        pair = data.producer()
        assert pair is not None
        assert pair.inputs[0] is not None
        activation, _ = self._activations[pair.inputs[0]]
        self._steps.append(
            QuantizeBias((), outputs, str(old.name), activation, self._weights[weight], *names)
        )

    def _add_grid(self, stem: str, grid: TrainedGrid) -> str:
        """Under a key that ``nn.ModuleDict`` takes."""
        key = f"{len(self._grids)}_{stem.replace('.', '_')}"
        self._grids[key] = grid
        return key


def _numbers(value: ir.Value) -> np.ndarray:
    array = constant(value)
    assert array is not None
    return array


def _ends(value: ir.Value) -> tuple[float, float]:
    """The bounds of the Clip that makes ``value``: engines leave it out within its grid's ends."""
    producer = value.producer()
    ends = [-math.inf, math.inf]
    if producer is not None and is_op(producer, "Clip"):
        for index, bound in enumerate(producer.inputs[1:3]):
            known = constant(bound)
            if known is not None:
                ends[index] = float(known.reshape(-1)[0])
    return ends[0], ends[1]
