"""Ranges of channels moved between layers, so that one scale of int8 fits all of an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.model import Model
from onnxpress.observed import MASK, Moments
from onnxpress.passes._linear import Linear
from onnxpress.passes._pairs import Pair, pair_before
from onnxpress.quantization import (
    activation_grid,
    add_constant,
    check_activations,
    check_bits,
)
from onnxpress.recipe import Change, Facts, Missed, Need, Pass, PerChannel
from onnxpress.shapes import Shapes
from onnxpress.values import Names, drop_unused

POWERS = (0.25, 0.5, 0.75, 1.0)
GAIN = 0.75
"""What a step must leave of the noise, at most."""
ROUNDS = 20
ROOM = 0.75
"""Of the largest channel's range others grow to as much: on new samples all of them go beyond."""
LEAST = 1e-4
"""The smallest channel beside the largest one that is told from none; so are weights."""


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """``W₂·f(W₁·x + b₁)`` → ``(W₂·s)·f((W₁/s)·x + b₁/s)``, s > 0 per channel between the two.

    W₁ is of a Conv, ConvTranspose or Gemm, W₂ of a Conv (depthwise too) or Gemm; f is ReLU,
    LeakyReLU, PReLU, pooling, flattening or nothing, and no other node reads what lies between.
    ReLU6 cuts at a number and stays. After Nagel et al. 2019, arXiv:1906.04721, for weights with a
    scale per output channel: ranges are those of activations on samples, and each s is built of
    steps ``r_x^α / r_W^(1-α)`` as long as the noise over signal that ``activations`` and
    ``weight_bits`` add to what W₂ makes falls by a quarter. The largest channel stays as it is,
    others grow to 3/4 of it. This does not depend on scales of other pairs, so chains need no
    second round.
    """

    rtol = 1e-4
    activations: str = "uint8"
    weight_bits: int = 8

    def __post_init__(self) -> None:
        check_activations("activations", self.activations)
        check_bits("weight_bits", self.weight_bits)

    def needs(self) -> tuple[Need, ...]:
        return (PerChannel(),)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph, names, shapes = model.ir.graph, Names(model.ir), Shapes(model.ir)
        scales: dict[ir.Node, list[np.ndarray | None]] = {}
        missed: list[Missed] = []
        rewrites = 0
        for node in graph:
            pair = pair_before(node, shapes)
            if isinstance(pair, Missed):
                missed.append(pair)
            if not isinstance(pair, Pair):
                continue
            source = node.inputs[0]
            assert source is not None
            seen = facts.moments.get(source.name or "")
            if seen is None or len(seen.low) != pair.second.inputs:
                missed.append(pair.missed(f"the channels of {source.name} were not observed"))
                continue
            s = self._factors(pair, seen)
            if s is None:
                continue
            if _loses(pair, s):
                missed.append(pair.missed("the new weights overflow or underflow"))
                continue
            scales.setdefault(pair.first.node, [None, None])[1] = 1 / s
            scales.setdefault(node, [None, None])[0] = np.repeat(s, pair.repeats)
            rewrites += 1
        for node, (inputs, outputs) in scales.items():
            _write(graph, names, node, inputs, outputs)
        drop_unused(graph.initializers.values())
        return Change(rewrites, missed=tuple(missed))

    def _factors(self, pair: Pair, seen: Moments) -> np.ndarray | None:
        """The s with the least noise, where it is worth it; the largest channel stays as it is."""
        noise = _Noise(pair, seen, self.activations, self.weight_bits)
        top = int(noise.largest.argmax())
        if not 0 < noise.largest[top] < MASK:
            return None
        smallest = np.minimum(noise.largest / (ROOM * noise.largest[top]), 1)
        best = start = np.ones(pair.first.outputs)
        least = noise(best)
        for _ in range(ROUNDS):
            before, found = least, best
            for power in POWERS:
                s = best * noise.step(best, power)
                s = np.maximum(s / s[top], smallest)
                error = noise(s)
                if error < GAIN * before and error < least:
                    found, least = s, error
            if found is best:
                break
            best = found
        return None if best is start else best


class _Noise:
    """Noise over signal of what the second of a pair makes, as a function of s.

    The mean over its outputs; rounding errors are uniform, and channels uncorrelated.
    """

    def __init__(self, pair: Pair, seen: Moments, activations: str, bits: int) -> None:
        self._activations, self._levels = activations, 2 ** (bits - 1) - 1
        shape = (pair.first.outputs, pair.repeats)
        low, high = seen.low.reshape(shape).min(axis=1), seen.high.reshape(shape).max(axis=1)
        self._low, self._high = np.minimum(low, 0), np.maximum(high, 0)
        self.largest = np.maximum(-self._low, self._high)
        split = pair.second.by_output().astype(np.float64)
        groups, outputs, inputs, taps = split.shape
        split = split.reshape(groups, outputs, inputs // pair.repeats, pair.repeats * taps)
        self._peak, self._power = np.abs(split).max(axis=3), np.square(split).sum(axis=3)
        square = seen.square.reshape(shape).mean(axis=1).reshape(groups, 1, -1)
        self._moved = square * split.shape[3]
        signal = (self._power * square).sum(axis=2)
        self._signal = np.where(signal > 0, signal, np.inf)

    def __call__(self, s: np.ndarray) -> float:
        low, high = float((self._low / s).min()), float((self._high / s).max())
        step = float(activation_grid(Range(low, high), self._activations).scale)
        factors = self._by_group(s)
        rounded = step**2 * (self._power * factors**2).sum(axis=2)
        steps = (self._peak * factors).max(axis=2) / self._levels
        weights = steps**2 * (self._moved / factors**2).sum(axis=2)
        return float(((rounded + weights) / self._signal).mean() / 12)

    def step(self, s: np.ndarray, power: float) -> np.ndarray:
        """What more to scale by: channels with large values and small weights by more."""
        scaled = self._peak * self._by_group(s)
        rows = scaled.max(axis=2, keepdims=True)
        share = scaled / np.where(rows > 0, rows, 1)
        columns = np.maximum(share.max(axis=1).reshape(-1), LEAST)
        channels = self.largest / s
        wanted = np.maximum(channels / channels.max(), LEAST) ** power / columns ** (1 - power)
        return np.where(channels > 0, wanted, 1.0)

    def _by_group(self, s: np.ndarray) -> np.ndarray:
        return s.reshape(self._peak.shape[0], 1, -1)


def _loses(pair: Pair, s: np.ndarray) -> bool:
    """Whether the weights' type cannot hold the new ones."""
    new = pair.first.scaled_outputs(1 / s), pair.second.scaled_inputs(np.repeat(s, pair.repeats))
    most = float(np.finfo(np.float32).max)
    if any(np.abs(weight).max() > most for weight in new):
        return True
    return pair.first.vanishes(new[0], inputs=False) or pair.second.vanishes(new[1], inputs=True)


def _write(
    graph: ir.Graph,
    names: Names,
    node: ir.Node,
    inputs: np.ndarray | None,
    outputs: np.ndarray | None,
) -> None:
    """New weights of ``node``, and a new bias where its outputs are scaled."""
    linear, weight, bias = Linear.of(node), node.inputs[1], None
    assert isinstance(linear, Linear)
    assert weight is not None
    if inputs is not None:
        linear = replace(linear, weight=linear.scaled_inputs(inputs))
    if outputs is not None:
        shift = linear.shift()
        assert shift is not None
        bias = shift * outputs
        linear = replace(linear, weight=linear.scaled_outputs(outputs))
    array = linear.weight.astype(np.float32)
    node.replace_input_with(1, add_constant(graph, names, f"{weight.name}_equal", array))
    if bias is not None and linear.bias is not None:
        stem = f"{linear.bias.name}_equal"
        node.replace_input_with(2, add_constant(graph, names, stem, bias.astype(np.float32)))
        node.attributes.pop("beta", None)
