"""What each node of a model costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import onnx_ir as ir

from onnxpress.liveness import fixed_values, made_bytes
from onnxpress.macs import macs
from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.shapes import Shapes
from onnxpress.values import STANDARD, constant, is_op, name_of, subgraphs


@dataclass(frozen=True)
class Layer:
    """One node. ``macs`` (None: unknown) and ``activation_bytes``, its outputs, are of one run.

    ``runs`` is how often it runs: 0 in the cheaper branch of an If, the trips of a loop where
    these are known, else 1. ``parameters`` that several nodes share are those of the first.
    """

    node: str
    op: str
    module: str
    runs: int
    macs: int | None
    parameters: int
    activation_bytes: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Operator:
    """All nodes of one operator: how many there are, and what their runs take together."""

    count: int
    macs: int
    parameters: int
    activation_bytes: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def layers(model: Model, shapes: Shapes) -> tuple[Layer, ...]:
    """The nodes of ``model``, in the order of the file, subgraphs included."""
    seen: set[int] = set()
    fixed = fixed_values(model.ir.graph)
    return tuple(
        Layer(
            name_of(node),
            operator(node),
            module_of(node),
            runs,
            macs(node, shapes),
            sum(model.parameters_of(value, seen) for value in node.inputs if value is not None),
            made_bytes(node, shapes, fixed),
        )
        for node, runs in _runs(model.ir.graph, shapes, 1)
    )


def operators(found: Iterable[Layer]) -> dict[str, Operator]:
    """Operator → all of its nodes, the one that multiplies most first."""
    sums: dict[str, list[int]] = {}
    for layer in found:
        total = sums.setdefault(layer.op, [0, 0, 0, 0])
        told = 1, (layer.macs or 0) * layer.runs, layer.parameters, layer.activation_bytes
        sums[layer.op] = [one + more for one, more in zip(total, told, strict=True)]
    by_work = sorted(sums.items(), key=lambda item: (-item[1][1], -item[1][0], item[0]))
    return {op: Operator(*total) for op, total in by_work}


def operator(node: ir.Node) -> str:
    """``MatMul``; operators of other domains as ``domain::Op``."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


def _runs(graph: ir.Graph, shapes: Shapes, times: int) -> Iterator[tuple[ir.Node, int]]:
    for node in graph:
        yield node, times
        inner = list(subgraphs(node))
        each = [times * _trips(node, shapes)] * len(inner)
        if is_op(node, "If"):
            costs = [_cost(branch, shapes) for branch in inner]
            dearest = costs.index(max(costs))
            each = [times if index == dearest else 0 for index in range(len(inner))]
        for body, count in zip(inner, each, strict=True):
            yield from _runs(body, shapes, count)


def _cost(graph: ir.Graph, shapes: Shapes) -> int:
    return sum((macs(node, shapes) or 0) * runs for node, runs in _runs(graph, shapes, 1))


def _trips(node: ir.Node, shapes: Shapes) -> int:
    """How often a loop runs, at most; 1 where that is not known."""
    if is_op(node, "Loop"):
        count = constant(node.inputs[0])
        return int(count.item()) if count is not None and 0 < count.item() < 1 << 31 else 1
    if is_op(node, "Scan"):
        first = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)
        axes = node.attributes.get("scan_input_axes")
        shape = shapes.shape(node.inputs[first]) if first < len(node.inputs) else None
        length = shape[axes.as_ints()[0] if axes else 0] if shape else None
        return length if isinstance(length, int) else 1
    return 1
