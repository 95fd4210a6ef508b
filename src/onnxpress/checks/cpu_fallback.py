"""Nodes that a provider leaves to the CPU, and the copies around them.

Where the provider is installed, ONNX Runtime itself tells what runs where. Elsewhere only what
its table of kernels ("OperatorKernels.md") lacks for CUDA is known.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnxpress.finding import ANYWHERE, Check, Finding, Target, file_of
from onnxpress.model import Model
from onnxpress.shapes import Shapes
from onnxpress.values import STANDARD, name_of

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
ON_CPU_FOR_CUDA = {
    "Col2Im", "ConvInteger", "Cosh", "DFT", "DeformConv", "Det", "GlobalLpPool", "HammingWindow",
    "HannWindow", "Hardmax", "LpNormalization", "LpPool", "MaxRoiPool", "MaxUnpool",
    "MelWeightMatrix", "Multinomial", "QLinearConv", "QLinearMatMul", "RegexFullMatch", "STFT",
    "Sinh", "StringConcat", "StringNormalizer", "StringSplit", "Tan", "TfIdfVectorizer", "Unique",
}  # fmt: skip
"""Standard operators that CUDA has no kernel for. One that ONNX defines by others is not here."""
ANYWAY = ("Constant", "Shape", "Size")
"""What costs nothing on the CPU: ONNX Runtime puts it there by itself."""
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
NUMBERS = (*FLOATS, ir.DataType.INT8, ir.DataType.UINT8)
"""Element types of data: islands of other types are shapes and indices, and are meant."""
NAMED = 4


class CpuFallback(Check):
    """One finding for each island: nodes on the CPU that feed one another."""

    def findings(self, model: Model, target: Target = ANYWHERE) -> list[Finding]:
        if target.provider in ("", CPU):
            return []
        types = Shapes(model.ir)
        assigned = target.kernels.assigned if target.kernels is not None else {}
        if not assigned and target.provider != CUDA:
            return [_unknown(model, target.provider)]
        left = {
            node
            for node in model.nodes()
            if node.op_type not in ANYWAY and _on_cpu(node, assigned, types)
        }
        whole = len(left) == sum(node.op_type not in ANYWAY for node in model.nodes())
        order = {node: index for index, node in enumerate(model.nodes())}
        islands = [
            sorted(island, key=order.__getitem__)
            for island in _islands([node for node in order if node in left])
            if _has_data(island, types)
        ]
        return [_told(island, target, whole=whole) for island in islands]


def _on_cpu(node: ir.Node, assigned: Mapping[str, str], types: Shapes) -> bool:
    if assigned:
        return assigned.get(name_of(node)) == CPU
    if node.domain == "ai.onnx.ml":
        return True
    if node.domain not in STANDARD:
        return False
    if node.op_type == "MatMulInteger":  # its kernel takes int8 by int8 alone
        return any(types.dtype(value) == ir.DataType.UINT8 for value in node.inputs[:2])
    return node.op_type in ON_CPU_FOR_CUDA


def _islands(nodes: list[ir.Node]) -> list[list[ir.Node]]:
    """Nodes that are joined by values, in the order of the islands' first nodes."""
    waiting, islands = dict.fromkeys(nodes), []
    while waiting:
        island = [next(iter(waiting))]
        del waiting[island[0]]
        for node in island:  # it grows meanwhile
            near = [user for value in node.outputs for user, _ in value.uses()]
            near += [made for value in node.inputs if value and (made := value.producer())]
            for other in near:
                if other in waiting:
                    del waiting[other]
                    island.append(other)
        islands.append(island)
    return islands


def _has_data(island: list[ir.Node], types: Shapes) -> bool:
    values = [value for node in island for value in (*node.inputs, *node.outputs) if value]
    return any(types.dtype(value) in NUMBERS for value in values)


def _told(island: list[ir.Node], target: Target, *, whole: bool) -> Finding:
    ops = ", ".join(dict.fromkeys(node.op_type for node in island))
    names = [name_of(node) for node in island]
    where = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
    if whole:
        what = f"{target.provider} runs none of the {len(island)} nodes: all are on the CPU"
        fix = "run it on the CPU: --provider CPUExecutionProvider"
    else:
        many = f"{len(island)} nodes ({ops}) run" if len(island) > 1 else f"1 node ({ops}) runs"
        what = f"{many} on the CPU, with copies to and from it"
        fix = f"replace {ops} before the export, or measure with and without --provider "
        fix += target.provider
    op = island[0].op_type if len(island) == 1 else ""
    return Finding("cpu_fallback", "warning", where, op, what, fix)


def _unknown(model: Model, provider: str) -> Finding:
    what = f"what {provider} leaves to the CPU is only known where it is installed"
    fix = f"on a machine that has it: onnxpress check {file_of(model)} --provider {provider}"
    return Finding("cpu_fallback", "info", file_of(model), "", what, fix)
