"""Outliers of single channels moved from activations into the weights, where int8 can hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.observed import MASK, Channels
from onnxpress.passes._absorbed import edits, write
from onnxpress.passes._linear import added
from onnxpress.quantization import (
    activation_grid,
    add_constant,
    check_activations,
    check_bits,
    constant_weight,
    linear_refusal,
    quantize_weight,
    unsaturated_scale,
)
from onnxpress.recipe import Change, Facts, Missed, Need, Pass, Rows
from onnxpress.values import Names, constant, drop_unused, is_op, name_of

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GAIN = 0.5
"""The squared error that is left, as a share, where the nodes that it takes are worth it."""
FEWEST_ROWS = 16
MARK = "onnxpress.smoothed"
"""In the metadata of what makes a smooth activation."""
MOST_COLUMNS = 512
"""Of the weights that read one activation: so many of their columns, evenly drawn, are tried."""


@dataclass(frozen=True)
class SmoothActivations(Pass):
    """``x·W + b`` → ``((x - z)·(1/s))·(s·W) + (z·W + b)``, z and s per channel of x.

    s = max|x - z|^α / max|W|^(1-α) after Xiao et al. 2023, arXiv:2211.10438, and z the middle of
    the channel or 0 after Wei et al. 2023, arXiv:2304.09145. α and z are searched for each x: the
    error of the product on observed rows, in ``activations``, ``weight_bits`` and ``reduce_range``
    (see quantize_static), is least. What gains little is left alone. All MatMul and Gemm that read
    one x share its z and s. Constants of what computes x take z and s where nothing else reads it:
    LayerNormalization, or a product and its bias, behind a ReLU too. Elsewhere x gets a Sub and a
    Mul.
    """

    rtol = 1e-3
    may_add_kernels = True
    activations: str = "uint8"
    weight_bits: int = 8
    reduce_range: bool = False

    def __post_init__(self) -> None:
        check_activations("activations", self.activations)
        check_bits("weight_bits", self.weight_bits)

    def needs(self) -> tuple[Need, ...]:
        return (Rows(),)

    def rewrite(self, model: Model, facts: Facts) -> Change:
        graph, names, rewrites = model.ir.graph, Names(model.ir), 0
        missed: list[Missed] = []
        for source, nodes in _readers(graph).items():
            seen = facts.rows.get(source.name or "")
            if _is_smooth(source):
                continue
            if seen is None or len(seen.rows) < FEWEST_ROWS:
                found = 0 if seen is None else len(seen.rows)
                why = f"{found} rows of its input were seen, {FEWEST_ROWS} are needed"
                missed.append(Missed("smoothing", tuple(map(name_of, nodes)), why))
                continue
            if max(float(np.abs(seen.low).max()), float(np.abs(seen.high).max())) > MASK:
                continue
            found_best = self._best(seen, source, nodes)
            if found_best is not None:
                _write(graph, names, source, nodes, *found_best)
                rewrites += 1
        drop_unused(graph.initializers.values())
        return Change(rewrites, missed=tuple(missed))

    def _best(
        self, seen: Channels, source: ir.Value, nodes: list[ir.Node]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The z and s with the least error of the products, where it is worth it."""
        weights = np.concatenate([_matrix(node) for node in nodes], axis=1)
        largest = np.abs(weights).max(axis=1)
        drawn = np.unique(np.linspace(0, weights.shape[1] - 1, MOST_COLUMNS).astype(int))
        some, rows = weights[:, drawn], seen.rows
        nothing = np.zeros(len(seen.low), np.float32)
        middles = [nothing]
        if _may_shift(source, nodes):
            middles.append(((seen.low + seen.high) / 2).astype(np.float32))
        plain = self._error(rows, some, seen, nothing, np.ones_like(nothing))
        best, least = None, plain * GAIN
        for z in middles:
            spread = np.maximum(seen.high - z, z - seen.low)
            for alpha in (None, *ALPHAS):
                if alpha is None and z is nothing:
                    continue
                s = np.ones_like(z) if alpha is None else _factors(spread, largest, alpha)
                error = self._error(rows, some, seen, z, s)
                if error < least:
                    best, least = (z, s), error
        return best

    def _error(
        self, rows: np.ndarray, weight: np.ndarray, seen: Channels, z: np.ndarray, s: np.ndarray
    ) -> float:
        """Squared, of the product of what is quantised, summed over ``rows``."""
        low, high = float(((seen.low - z) / s).min()), float(((seen.high - z) / s).max())
        grid = activation_grid(Range(low, high), self.activations)
        moved = (rows - z) / s
        scaled = s[:, None] * weight
        least = unsaturated_scale(scaled, 1) if self.reduce_range else None
        quantized = quantize_weight(scaled, 1, self.weight_bits, least)
        product = grid.nearest(moved) @ quantized.nearest
        return float(np.square(product - moved @ scaled).sum())


def _readers(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    """Activation → the products of it with constant matrices."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        weight = constant_weight(node)
        if weight is None or not is_op(node, "MatMul", "Gemm") or linear_refusal(node, weight):
            continue
        source = node.inputs[0]
        assert source is not None
        if constant(source) is None:
            found.setdefault(source, []).append(node)
    return found


def _may_shift(source: ir.Value, nodes: list[ir.Node]) -> bool:
    """Whether biases take up z, and no kernel is needed for it that s alone does without."""
    widths = [_matrix(node).shape for node in nodes]
    if any(added(node, width) is None for node, (_, width) in zip(nodes, widths, strict=True)):
        return False
    one = np.ones(widths[0][0], np.float32)
    return edits(source, nodes, one, one) is not None or edits(source, nodes, 0 * one, one) is None


def _is_smooth(source: ir.Value) -> bool:
    """Whether ``source`` is smooth already."""
    producer = source.producer()
    return producer is not None and producer.metadata_props.get(MARK) == "1"


def _matrix(node: ir.Node) -> np.ndarray:
    """(channels of x, outputs)."""
    weight = constant_weight(node)
    assert weight is not None
    return weight.T if _is_turned(node) else weight


def _is_turned(node: ir.Node) -> bool:
    return is_op(node, "Gemm") and bool(node.attributes.get_int("transB", 0))


def _factors(spread: np.ndarray, largest: np.ndarray, alpha: float) -> np.ndarray:
    s = np.maximum(spread, 1e-5) ** alpha / np.maximum(largest, 1e-5) ** (1 - alpha)
    # A channel that is always 0 is nothing to scale by.
    s /= np.exp(np.log(s).mean())
    s = np.clip(s, 1e-3, 1e3)
    s[(spread == 0) | (largest == 0)] = 1
    return np.asarray(s, np.float32)


def _write(
    graph: ir.Graph,
    names: Names,
    source: ir.Value,
    nodes: list[ir.Node],
    z: np.ndarray,
    s: np.ndarray,
) -> None:
    moved: ir.Value = source
    steps: list[tuple[str, np.ndarray]] = []
    producer = source.producer()
    found = edits(source, nodes, z, s)
    if found is not None and producer is not None:
        write(graph, names, found)
        producer.metadata_props[MARK] = "1"
    else:
        steps = [("Sub", z)] if z.any() else []
        steps += [("Mul", (1 / s).astype(np.float32))] if (s != 1).any() else []
    for op, array in steps:
        node = ir.node(op, [moved, add_constant(graph, names, f"{source.name}_{op}", array)])
        output = node.outputs[0]
        output.name, output.dtype = names.fresh(f"{source.name}_smooth"), ir.DataType.FLOAT
        output.shape = source.shape
        inherit(node, nodes[0])
        node.metadata_props[MARK] = "1"
        nodes[0].prepend([node])
        moved = output
    for node in nodes:
        weight, matrix = node.inputs[1], _matrix(node)
        assert weight is not None
        if z.any():
            place = added(node, matrix.shape[1])
            assert place is not None
            user, index = place
            old = user.inputs[index]
            bias = constant(old)
            assert old is not None
            assert bias is not None
            shifted = (bias + z.astype(np.float64) @ matrix).astype(np.float32)
            user.replace_input_with(
                index, add_constant(graph, names, f"{old.name}_smooth", shifted)
            )
        scaled = (s[:, None] * matrix).astype(np.float32)
        stored = np.ascontiguousarray(scaled.T) if _is_turned(node) else scaled
        node.replace_input_with(1, add_constant(graph, names, f"{weight.name}_smooth", stored))
        node.replace_input_with(0, moved)
