"""int8 tables of embeddings: a quarter of the bytes, and only rows that are read become floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.observed import MASK
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    QuantizedWeight,
    add_constant,
    quantize_weight,
)
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, drop_unused, is_op, name_of, opset

LEAST_BYTES = 256 << 10
"""A smaller table is not worth a node more."""
NOISE = 5e-3
"""The most noise over signal that rounding may make; usual tables get 0.0002."""
NORMAL = 1.4826
"""The standard deviation of normal numbers over their median distance from the median."""
MOST_ROWS = 4096
"""Of a table: so many of its rows, evenly drawn, tell its noise."""


@dataclass(frozen=True)
class QuantizeEmbeddings(Pass):
    """``Gather(W, i)`` → ``DequantizeLinear(Gather(W_q, i), s)``, W_q int8, s per column of W.

    For float32 tables [rows, columns] of 256 KiB or more that nothing but Gather reads, by rows.
    Tables that get more than 0.5 % noise stay float: an outlier or an offset takes up the scale
    of all of its column. So do those that a node named in ``exclude`` reads.
    """

    rtol = None
    exclude: tuple[str, ...] = ()

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if opset(model.ir) < PER_CHANNEL_OPSET:
            return Change(0, (f"per-column tables need opset {PER_CHANNEL_OPSET}",))
        graph, names = model.ir.graph, Names(model.ir)
        rewrites, refusals = 0, []
        for table in list(graph.initializers.values()):
            readers = [use.node for use in table.uses()]
            if not _is_table(table) or any(name_of(node) in self.exclude for node in readers):
                continue
            gathering = [node for node, index in table.uses() if _gathers_rows(node, index)]
            other = next((node for node in readers if node not in gathering), None)
            if other is not None:
                why = f"{other.op_type} '{name_of(other)}' reads its table in float"
                refusals += [f"{name_of(node)}: {why}" for node in gathering]
                continue
            if any(node.outputs[0].is_graph_output() for node in readers):
                refusals += [f"{name_of(node)}: its rows are an output" for node in readers]
                continue
            assert table.const_value is not None
            array = table.const_value.numpy()
            quantized = quantize_weight(array, 1)
            if _noise(array, quantized) > NOISE:
                why = "rounding would make too much noise of its table"
                refusals += [f"{name_of(node)}: {why}" for node in readers]
                continue
            values, scale, zero = (
                add_constant(graph, names, f"{table.name}_{what}", part)
                for what, part in (
                    ("int8", quantized.values),
                    ("scale", quantized.scale),
                    ("zero", np.zeros(quantized.scale.shape, np.int8)),
                )
            )
            for node in readers:
                _rewire(node, values, scale, zero, names)
                rewrites += 1
            drop_unused([table])
        return Change(rewrites, tuple(refusals))


def _is_table(value: ir.Value) -> bool:
    tensor = value.const_value
    if value.is_graph_input() or value.is_graph_output() or tensor is None or not value.uses():
        return False
    return (
        tensor.dtype == ir.DataType.FLOAT
        and len(tensor.shape) == 2
        and tensor.nbytes >= LEAST_BYTES
        and any(_gathers_rows(node, index) for node, index in value.uses())
        and bool(np.abs(tensor.numpy()).max() < MASK)
    )


def _gathers_rows(node: ir.Node, index: int) -> bool:
    return is_op(node, "Gather") and index == 0 and node.attributes.get_int("axis", 0) in (0, -2)


def _noise(array: np.ndarray, quantized: QuantizedWeight) -> float:
    """Over what a column varies by, as variances, at most 1; the mean of all columns.

    A column varies by the median's distance, so that neither an outlier nor an offset hides what
    the rest of it loses.
    """
    evenly = slice(None, None, max(1, len(array) // MOST_ROWS))
    drawn = array[evenly].astype(np.float64)
    noise = np.square(quantized.values[evenly] * quantized.scale - drawn).mean(axis=0)
    spread = np.median(np.abs(drawn - np.median(drawn, axis=0)), axis=0) * NORMAL
    lost = np.divide(noise, np.square(spread), out=np.ones_like(noise), where=spread > 0)
    return float(np.where(noise > 0, np.minimum(lost, 1), 0).mean())


def _rewire(node: ir.Node, values: ir.Value, scale: ir.Value, zero: ir.Value, names: Names) -> None:
    """Let ``node`` gather integers, and a node behind it make floats of them."""
    rows = node.outputs[0]
    dequantize = ir.node("DequantizeLinear", [rows, scale, zero], {"axis": -1})
    output = dequantize.outputs[0]
    output.name, output.dtype, output.shape = rows.name, ir.DataType.FLOAT, rows.shape
    rows.name = names.fresh(f"{rows.name}_int8")
    inherit(dequantize, node)
    node.append([dequantize])
    rows.replace_all_uses_with(output)
    dequantize.replace_input_with(0, rows)
    rows.type = ir.TensorType(ir.DataType.INT8)  # clones share the object that was there
    node.replace_input_with(0, values)
