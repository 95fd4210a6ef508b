"""Weights in 4 or 8 bits, a scale for each small block of them; activations stay float."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from onnxpress.blocks import Blocks, packed, quantize_blocks
from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.modules import inherit
from onnxpress.passes._rewriting import CONTRIB, take
from onnxpress.quantization import add_constant, check_scales, constant_weight, is_odd_gemm
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.values import Names, drop_unused, is_op, name_of, opset

FORMS = ("MatMulNBits", "DequantizeLinear")
DEQUANTIZE_OPSET = 21
"""The first opset whose DequantizeLinear has blocks and 4 bits."""
SIZES = (16, 32, 64, 128, 256)
LEVELS = {"float32": 1, "float16": 2, "bfloat16": 3, "int8": 4}
STORED = {
    (4, True): ml_dtypes.int4, (4, False): ml_dtypes.uint4, (8, True): np.int8, (8, False): np.uint8
}  # fmt: skip


@dataclass(frozen=True)
class QuantizeBlockwise(Pass):
    """``MatMul(x, W)`` → ``MatMulNBits(x, W_q, s, z)``, where ``W ≈ (W_q - z) · s`` by blocks.

    Also ``Gemm(x, W, b)``, to whose product b is added. W_q has ``bits`` bits, s and z stand for
    ``block_size`` weights of one output; ``symmetric=True`` leaves z out. ``scales=mse`` seeks
    scales with the least squared error, ``minmax`` keeps the extremes. ``form=DequantizeLinear``
    writes ``MatMul(x, DequantizeLinear(W_q, s, z))``, ONNX's own operators from opset 21 on, for
    inputs that are a multiple of a block. ONNX Runtime and OpenVINO read both.
    ``compute=int8`` lets ONNX Runtime round activations to int8 on the
    way, as it does in the second form whatever one says; ``float32`` does not. Nodes named in
    ``exclude`` stay float.
    """

    rtol = None
    bits: int = 4
    block_size: int = 32
    symmetric: bool = False
    scales: str = "mse"
    form: str = "MatMulNBits"
    compute: str = "float32"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise InputError(f"bits={self.bits}", "4 or 8")
        if self.block_size not in SIZES:
            raise InputError(f"block_size={self.block_size}", f"one of {SIZES}")
        check_scales("scales", self.scales)
        for name, value, known in (("form", self.form, FORMS), ("compute", self.compute, LEVELS)):
            if value not in known:
                raise InputError(f"{name}={value}", f"one of {', '.join(known)}")

    def rewrite(self, model: Model, facts: Facts) -> Change:
        if self.form == "DequantizeLinear" and opset(model.ir) < DEQUANTIZE_OPSET:
            return Change(0, (f"weights in blocks need opset {DEQUANTIZE_OPSET}",))
        products = _Products(model.ir, self)
        rewrites, refusals = 0, []
        for node in list(ir.traversal.RecursiveGraphIterator(model.ir.graph)):
            if not is_op(node, "MatMul", "Gemm") or name_of(node) in self.exclude:
                continue
            weight = constant_weight(node)
            reason = "" if weight is None else self._refusal(node, weight)
            if reason:
                refusals.append(f"{name_of(node)}: {reason}")
            elif weight is not None:
                products.replace(node, weight)
                rewrites += 1
        for graph in model.ir.graphs():
            drop_unused(graph.initializers.values())
        if rewrites and self.form == "MatMulNBits":
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
        return Change(rewrites, tuple(refusals))

    def _refusal(self, node: ir.Node, weight: np.ndarray) -> str:
        if weight.ndim != 2:
            return f"its weight has {weight.ndim} dimensions"
        if is_odd_gemm(node):
            return "transA, alpha or beta is set"
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is not None and len(shape) < 2:
            return "its input is a vector"
        size = weight.shape[_is_transposed(node)]
        if self.form == "DequantizeLinear" and size % self.block_size:
            return f"its input of {size} is no multiple of a block of {self.block_size}"
        return ""


class _Products:
    """The quantised weights so far: one of each, shared by all that read it."""

    def __init__(self, model: ir.Model, how: QuantizeBlockwise) -> None:
        self._names, self._how = Names(model), how
        self._weights: dict[tuple[ir.Value, bool], list[ir.Value]] = {}

    def replace(self, node: ir.Node, weight: np.ndarray) -> None:
        """Put the product by blocks in the place of ``node``, a MatMul or Gemm."""
        how, result, source = self._how, node.outputs[0], node.inputs[0]
        old, transposed = node.inputs[1], _is_transposed(node)
        assert old is not None
        assert source is not None
        weight = weight.T if transposed else weight
        key = (old, transposed)
        if key not in self._weights:
            self._weights[key] = self._constants(old, weight)
        parts = self._weights[key]
        if how.form == "MatMulNBits":
            shape = {"K": weight.shape[0], "N": weight.shape[1]}
            level = {"bits": how.bits, "block_size": how.block_size, **shape}
            level["accuracy_level"] = LEVELS[how.compute]
            nodes = [ir.node("MatMulNBits", [source, *parts], level, domain=CONTRIB)]
        else:
            blocks = {"axis": 0, "block_size": how.block_size}
            nodes = [ir.node("DequantizeLinear", parts, blocks)]
            nodes.append(ir.node("MatMul", [source, nodes[0].outputs[0]]))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            nodes.append(ir.node("Add", [nodes[-1].outputs[0], node.inputs[2]]))
        for new in nodes:
            new.outputs[0].name = self._names.fresh(f"{result.name}_{new.op_type}")
            new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            inherit(new, node)
        nodes[-1].name = node.name
        node.prepend(nodes)
        take(result, nodes[-1].outputs[0])
        assert node.graph is not None
        node.graph.remove(node, safe=True)

    def _constants(self, old: ir.Value, weight: np.ndarray) -> list[ir.Value]:
        """Integers, scales and, unless symmetric, zero points, beside the weight ``old``."""
        how, graph = self._how, old.graph
        assert isinstance(graph, ir.Graph)
        blocks = quantize_blocks(weight, how.block_size, how.bits, how.symmetric, how.scales)
        make = self._own if how.form == "MatMulNBits" else self._standard
        arrays = make(blocks)
        if how.symmetric:
            del arrays["zero"]
        return [
            add_constant(graph, self._names, f"{old.name}_{part}", array)
            for part, array in arrays.items()
        ]

    def _own(self, blocks: Blocks) -> dict[str, np.ndarray]:
        bits = self._how.bits
        return {
            f"uint{bits}": packed(blocks.integers, bits),
            "scale": blocks.scale,
            "zero": packed(blocks.zero, bits),
        }

    def _standard(self, blocks: Blocks) -> dict[str, np.ndarray]:
        """[K, N] and [blocks, N]; signed without zero points, since they are 0 then."""
        bits, symmetric = self._how.bits, self._how.symmetric
        kind, shift = STORED[bits, symmetric], 2 ** (bits - 1) if symmetric else 0
        integers = blocks.integers.reshape(len(blocks.scale), -1).T.astype(np.int16) - shift
        return {
            f"{'' if symmetric else 'u'}int{bits}": integers.astype(kind),
            "scale": np.ascontiguousarray(blocks.scale.T),
            "zero": blocks.zero.T.astype(kind),
        }


def _is_transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
