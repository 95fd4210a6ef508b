"""int8 tables of embeddings: a quarter of the bytes, and only rows that are read become floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.quantization import (
    PER_CHANNEL_OPSET,
    QuantizedWeight,
    add_constant,
    quantize_weight,
)
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, drop_unused, forward, is_op, name_of, opset

LEAST_BYTES = 256 << 10
"""A smaller table is not worth a node more."""
NOISE = 1e-3
"""The most noise over signal that rounding may make of a row, on average: 30 dB."""


@dataclass(frozen=True)
class QuantizeEmbeddings(Pass):
    """``Gather(W, i)`` → ``DequantizeLinear(Gather(W_q, i), s)``, W_q int8, s per column of W.

    For float32 tables [rows, columns] of 256 KiB or more that nothing but Gather reads, by rows.
    Tables whose rows get more than 0.1 % noise stay float: one outlier takes up the scale of all
    of its column. So do those that a node named in ``exclude`` reads.
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
            assert table.const_value is not None
            array = table.const_value.numpy()
            quantized = quantize_weight(array, 1)
            if _noise(array, quantized) > NOISE:
                why = "rounding makes too much noise of the rows of its table"
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
        and all(_gathers_rows(node, index) for node, index in value.uses())
        and bool(np.isfinite(tensor.numpy()).all())
    )


def _gathers_rows(node: ir.Node, index: int) -> bool:
    rows = is_op(node, "Gather") and index == 0 and node.attributes.get_int("axis", 0) in (0, -2)
    return rows and not node.outputs[0].is_graph_output()


def _noise(array: np.ndarray, quantized: QuantizedWeight) -> float:
    """Over signal, of a row, on average."""
    noise = np.square(quantized.nearest - array).sum(axis=1, dtype=np.float64)
    signal = np.square(array).sum(axis=1, dtype=np.float64)
    return float((noise / np.maximum(signal, np.finfo(np.float32).tiny)).mean())


def _rewire(node: ir.Node, values: ir.Value, scale: ir.Value, zero: ir.Value, names: Names) -> None:
    """Let ``node`` gather integers, and a node behind it make floats of them."""
    rows = node.outputs[0]
    dequantize = ir.node("DequantizeLinear", [rows, scale, zero], {"axis": -1})
    output = dequantize.outputs[0]
    output.name, output.dtype = names.fresh(f"{rows.name}_dequantized"), ir.DataType.FLOAT
    output.shape = rows.shape
    inherit(dequantize, node)
    node.append([dequantize])
    forward(rows, output)
    dequantize.replace_input_with(0, rows)
    rows.type = ir.TensorType(ir.DataType.INT8)  # clones share the object that was there
    rows.name = rows.name or names.fresh(f"{output.name}_int8")
    node.replace_input_with(0, values)
