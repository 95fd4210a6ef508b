"""The noise that quantisation leaves in what layers compute, channel by channel.

Noise over signal, both as variances, is the mean over the channels of a layer's result. It is what
no scale and shift of a channel explains: passes that smooth activations move both into other
constants, so that tensors of one name differ by them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.signature import Feeds
from onnxpress.values import Names, is_op, name_of
from onnxpress.verbs.observe import tapped

Batches = Callable[[], Iterable[Feeds]]
BATCHES = 8
FEWEST, ENOUGH = 8, 64
"""Values of a channel: fewer are explained by any scale and shift, more need not be seen."""


def noise(
    layers: Iterable[str], model: Model, quantized: Model, batches: Batches
) -> dict[str, float]:
    """In the results of those of ``layers`` that both models have, by a run of each.

    Only a few of the ``batches`` are read. Raises ``EngineError``.
    """
    _, made, axes = _tensors(layers, model, quantized)
    apart = {name: _Apart(axes[name]) for name in made.values()}
    few = list(itertools.islice(batches(), BATCHES))
    outputs = (tapped(each, list(apart), few) for each in (model, quantized))
    for right, wrong in zip(*outputs, strict=True):
        if _enough(apart, right, wrong):
            break
    return _known(made, apart)


def added_noise(
    layers: Iterable[str], model: Model, quantized: Model, batches: Batches
) -> dict[str, float]:
    """What each layer adds by itself: in ``quantized`` it reads what it reads in ``model``.

    ``model`` computes in float with the constants that were moved for ``quantized``. A run of each
    on few of the ``batches``. Raises ``EngineError``.
    """
    read, made, axes = _tensors(layers, model, quantized)
    apart = {name: _Apart(axes[name]) for name in made.values()}
    few = list(itertools.islice(batches(), BATCHES))
    for feeds, right in zip(few, tapped(model, list(axes), few), strict=True):
        cut, entrances = _cut(quantized, {name: right[name].ndim for name in read.values()})
        exact = {**feeds, **{new: right[name] for name, new in entrances.items()}}
        (wrong,) = tapped(cut, list(apart), [exact])
        if _enough(apart, right, wrong):
            break
    return _known(made, apart)


def _enough(apart: Mapping[str, _Apart], right: Feeds, wrong: Feeds) -> bool:
    """Whether enough was seen, this batch of the two models included."""
    for name, each in apart.items():
        each.add(right[name], wrong[name])
    return all(each.count >= ENOUGH for each in apart.values())


def _known(made: Mapping[str, str], apart: Mapping[str, _Apart]) -> dict[str, float]:
    found = {layer: apart[name].noise for layer, name in made.items()}
    return {layer: noise for layer, noise in found.items() if np.isfinite(noise)}


def _tensors(
    layers: Iterable[str], model: Model, quantized: Model
) -> tuple[dict[str, str], dict[str, str], dict[str, int]]:
    """What layers read, what they make, and which axis of these tensors are channels."""
    nodes = {name_of(node): node for node in model.ir.graph}
    there = {value.name for node in quantized.ir.graph for value in node.outputs}
    there |= {value.name for value in quantized.ir.graph.inputs}
    read: dict[str, str] = {}
    made: dict[str, str] = {}
    axes: dict[str, int] = {}
    for layer in layers:
        node = nodes[layer]
        source, result = node.inputs[0], node.outputs[0]
        if source is None or not {source.name, result.name} <= there:
            continue
        read[layer], made[layer] = str(source.name), str(result.name)
        axis = 1 if is_op(node, "Conv", "ConvTranspose") else -1
        for name in (read[layer], made[layer]):
            axes.setdefault(name, axis)
    return read, made, axes


def _cut(model: Model, ranks: Mapping[str, int]) -> tuple[Model, dict[str, str]]:
    """``model`` with an input in the place of each tensor of ``ranks``, and the inputs' names."""
    clone = model.clone()
    graph, names = clone.ir.graph, Names(clone.ir)
    values = {str(value.name): value for value in graph.inputs}
    values |= {str(value.name): value for node in graph for value in node.outputs}
    entrances = {}
    for name, rank in ranks.items():
        entrance = ir.Value(
            name=names.fresh(f"{name}_exact"),
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape([None] * rank),
        )
        graph.inputs.append(entrance)
        for user, index in list(values[name].uses()):  # an output of the graph stays one
            user.replace_input_with(index, entrance)
        entrances[name] = str(entrance.name)
    return clone, entrances


class _Apart:
    """One tensor in two models over all batches: sums by channels of ``axis``."""

    def __init__(self, axis: int) -> None:
        self._axis, self.count = axis, 0
        self._sums: np.ndarray = np.zeros((5, 1))

    def add(self, right: np.ndarray, wrong: np.ndarray) -> None:
        """One batch of both; what is of two shapes, or has no channels, is left out."""
        if right.shape != wrong.shape or right.ndim < 2:
            return
        x, y = (
            np.moveaxis(array, self._axis, -1).reshape(-1, array.shape[self._axis]).astype(float)
            for array in (right, wrong)
        )
        sums = np.stack([part.sum(axis=0) for part in (x, y, x * x, y * y, x * y)])
        self._sums = self._sums + sums
        self.count += len(x)

    @property
    def noise(self) -> float:
        """The mean over channels that vary; NaN where none does, or too little was seen."""
        if self.count < FEWEST:
            return float("nan")
        x, y, xx, yy, xy = self._sums / self.count
        signal, other, both = xx - x * x, yy - y * y, xy - x * y
        varies = signal > 1e-12 * max(float(signal.max()), 1e-30)
        explained = np.divide(both * both, other, out=np.zeros_like(both), where=other > 0)
        left = np.maximum(signal - explained, 0)[varies] / signal[varies]
        return float(left.mean()) if left.size else float("nan")
