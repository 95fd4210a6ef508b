"""What quantisation did to each layer and tensor of one model, for people to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from onnxpress.model import Model
from onnxpress.observed import Observed
from onnxpress.quantization import Grid
from onnxpress.signature import Feeds
from onnxpress.values import constant, is_op
from onnxpress.verbs.noise import noise
from onnxpress.verbs.observe import Seen

MOST_LAYERS, MOST_TENSORS, BINS = 12, 3, 48


@dataclass(frozen=True)
class TensorError:
    """One activation: what was seen of it, what its integers represent, and what that costs.

    ``error`` is the mean squared rounding and clipping error over the mean square; ``counts``
    divide what lies between ``seen_low`` and ``seen_high`` into bins of one width.
    """

    tensor: str
    error: float
    low: float
    high: float
    seen_low: float
    seen_high: float
    counts: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        return {**vars(self), "counts": list(self.counts)}


@dataclass(frozen=True)
class Insight:
    """``layers`` and ``tensors`` with the largest errors, worst first.

    A layer's error is the noise in its result over the signal: see ``noise``.
    """

    layers: tuple[tuple[str, float], ...]
    tensors: tuple[TensorError, ...]

    def to_dict(self) -> dict[str, object]:
        return {
            "layers": [{"node": node, "error": error} for node, error in self.layers],
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }


def insight(
    layers: Iterable[str],
    model: Model,
    quantized: Model,
    seen: Seen,
    batches: Callable[[], Iterable[Feeds]],
) -> Insight:
    """Of ``quantized``, made from ``model``; ``seen`` are the activations that were quantised.

    Both models run once, on a few batches.
    """
    errors = noise(layers, model, quantized, batches)
    worst = sorted(errors.items(), key=lambda e: -e[1])
    found = []
    for node in quantized.ir.graph:
        if not is_op(node, "QuantizeLinear") or node.inputs[0] is None:
            continue
        observed = seen.tensors.get(str(node.inputs[0].name))
        scale = constant(node.inputs[1])
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if observed is None or scale is None or zero is None or scale.size > 1:
            continue
        grid = Grid(scale.reshape(()), zero.reshape(()))
        found.append(_tensor(str(node.inputs[0].name), observed, grid))
    found.sort(key=lambda tensor: -tensor.error)
    return Insight(tuple(worst[:MOST_LAYERS]), tuple(found[:MOST_TENSORS]))


def _tensor(name: str, observed: Observed, grid: Grid) -> TensorError:
    points = observed.points()
    square = float(np.dot(points.counts, points.values**2))
    lost = float(np.dot(points.counts, (points.values - grid.nearest(points.values)) ** 2))
    edges = np.linspace(observed.low, max(observed.high, observed.low + 1e-12), BINS + 1)
    counts, _ = np.histogram(points.values, edges, weights=points.counts)
    low, high = grid.bounds
    return TensorError(
        name,
        lost / square if square else 0.0,
        low,
        high,
        observed.low,
        observed.high,
        tuple(round(float(count), 1) for count in counts),
    )
