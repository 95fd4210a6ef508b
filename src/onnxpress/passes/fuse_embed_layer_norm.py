"""Embeddings of words, positions and segments, summed and normalised, as one operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.model import Model
from onnxpress.passes._embeddings import Addend, Addends
from onnxpress.passes._narrowing import Narrowing
from onnxpress.passes._rewriting import CONTRIB, replace, sweep
from onnxpress.recipe import Change, Facts, Missed, Pass
from onnxpress.shape_rules import Shape
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, is_op, name_of

KIND = "EmbedLayerNormalization"
RANK = 3
TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""What ONNX Runtime's kernel computes in."""


@dataclass(frozen=True)
class FuseEmbedLayerNorm(Pass):
    """``LayerNormalization(W[ids] + P[i] + S[segments], γ, β)`` → ``EmbedLayerNormalization``.

    For ONNX Runtime; there need be no segments. W, P and S are constants [rows, size]; ids and
    segments are [batch, length]. i is the position, or what the graph computes of it. A constant
    row that is added as well becomes a part of P. An index below 0, which Gather counts from the
    end, is an error of the operator; a tokenizer gives none. Not made where it would save no
    kernel, nor where the sum is read by others: OpenVINO does not know that output.
    """

    rtol = 1e-4

    def rewrite(self, model: Model, facts: Facts) -> Change:
        work = _Work(model.ir)
        for node in list(model.ir.graph):
            if node.graph is not None and is_op(node, "LayerNormalization"):
                work.fuse(node)
        if work.rewrites:
            model.ir.graph.opset_imports.setdefault(CONTRIB, 1)
            sweep(model.ir)
        return Change(work.rewrites, missed=tuple(work.missed))


@dataclass(frozen=True)
class _Sum:
    """The inner Add nodes of a sum, the last one first, and what they add."""

    nodes: tuple[ir.Node, ...]
    values: tuple[ir.Value, ...]


@dataclass(frozen=True)
class _Tables:
    """Who plays which part; constant ``rows`` are to be added to the positions."""

    words: Addend
    positions: Addend
    segments: Addend | None
    rows: tuple[Addend, ...]


class _Work:
    def __init__(self, model: ir.Model) -> None:
        self.rewrites = 0
        self.missed: list[Missed] = []
        self._graph = model.graph
        self._shapes, self._names = Shapes(model), Names(model)
        self._addends = Addends(self._shapes)
        self._narrowing = Narrowing(model.graph, self._shapes, self._names)

    def fuse(self, node: ir.Node) -> None:
        total = node.inputs[0]
        shape = self._shapes.shape(total)
        if total is None or shape is None or len(shape) != RANK:
            return
        found = _sum(total)
        addends = [self._addends.read(value, shape) for value in found.values]
        if not found.nodes or not any(
            each is not None and each.ids is not None for each in addends
        ):
            return
        why, blocking = _obstacle(node, found, addends)
        known = [each for each in addends if each is not None]
        why = why or self._unfit(node, known, shape)
        if not why:
            tables = self._tables(known, shape)
            why = tables if isinstance(tables, str) else self._replace(node, found, tables)
        if why:
            names = tuple(map(name_of, (node, *found.nodes)))
            self.missed.append(Missed(KIND, names, why, blocking))
        else:
            self.rewrites += 1

    def _unfit(self, node: ir.Node, addends: Sequence[Addend], shape: Shape) -> str:
        """What the operator cannot do, or nothing."""
        if node.attributes.get_int("axis", -1) not in (-1, RANK - 1):
            return "it is not over the last dimension"
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return "its mean or deviation is read"
        parts = [part for part in node.inputs[1:3] if part is not None]
        if any(self._shapes.shape(part) != shape[-1:] for part in parts):
            return "its factors are not of the last dimension's size"
        types = {self._shapes.dtype(part) for part in (*parts, *(each.table for each in addends))}
        if len(types) > 1 or not types <= set(TYPES):
            return f"it is in {', '.join(sorted(map(_told, types)))}, not float32 or float16"
        return ""

    def _tables(self, addends: Sequence[Addend], shape: Shape) -> _Tables | str:
        """The parts that the addends play, or the reason why they cannot."""
        rows = [each for each in addends if each.everywhere]
        others = [each for each in addends if not each.everywhere]
        for_all = [each for each in others if not self._has_ids(each, shape)]
        by_rows = sorted((e for e in others if self._has_ids(e, shape)), key=self._size)
        if not by_rows or len(others) not in (2, 3) or len(for_all) > 1:
            counts = f"{len(by_rows)} by ids and {len(for_all)} by position"
            return f"it adds rows of {counts}, not of one or two and one"
        words = by_rows.pop()
        positions = for_all[0] if for_all else by_rows.pop()
        if (rows or positions.start) and len(positions.table.uses()) > 1:
            return "another node reads its table of positions, which would change"
        return _Tables(words, positions, by_rows[0] if by_rows else None, tuple(rows))

    def _has_ids(self, addend: Addend, shape: Shape) -> bool:
        """Whether it has ids for each row of the batch."""
        return addend.ids is not None and self._shapes.shape(addend.ids) == shape[:-1]

    def _size(self, addend: Addend) -> int:
        return addend.table.const_value.size if addend.table.const_value is not None else 0

    def _replace(self, node: ir.Node, found: _Sum, tables: _Tables) -> str:
        """The reason why not, or nothing."""
        words, positions, segments = tables.words, tables.positions, tables.segments
        given = [words.ids, None if segments is None else segments.ids, positions.ids]
        one, two = (self._shapes.shape(value) for value in found.nodes[0].inputs[:2])
        plans = [self._narrowing.plan(value) for value in given if value is not None]
        added = 1 + sum(len(plan.made) for plan in plans)
        kept = {value for plan in plans for value in plan.read}
        # A sum of equal shapes can be part of SkipLayerNormalization.
        skipped = one == two
        if _gone(self._graph, node, kept) - skipped <= added:
            return "it would save no kernel"
        ids, parts, places = (
            None if value is None else self._narrowing.write(value, node) for value in given
        )
        gamma, beta = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        assert gamma is not None
        inputs = [
            ids, parts, words.table, self._positions(tables),
            None if segments is None else segments.table,
            gamma, beta or self._zeros(gamma), None, places,
        ]  # fmt: skip
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        fused = replace(
            node.outputs[0], KIND, inputs, {"epsilon": epsilon}, domain=CONTRIB,
            gone=[node, *found.nodes],
        )  # fmt: skip
        # ONNX Runtime infers a type of the second output, and fails where there is none.
        fused.resize_outputs(2)
        lengths = fused.outputs[1]
        lengths.name = self._names.fresh(f"{fused.outputs[0].name}_lengths")
        lengths.type = ir.TensorType(ir.DataType.INT32)
        self._shapes.learn(fused)
        return ""

    def _positions(self, tables: _Tables) -> ir.Value:
        """The table of positions [rows, size], with what is added everywhere."""
        old, start = tables.positions.table, tables.positions.start
        if not tables.rows and not start and len(self._shapes.shape(old) or ()) == 2:
            return old
        numbers = tables.positions.rows()
        dtype = numbers.dtype
        for row in tables.rows:
            numbers = numbers + row.rows()[:1].astype(np.float32)
        return self._constant(f"{old.name}_rows", numbers.astype(dtype))

    def _zeros(self, gamma: ir.Value) -> ir.Value:
        shape, dtype = self._shapes.shape(gamma), self._shapes.dtype(gamma)
        assert shape is not None
        assert dtype is not None
        (size,) = shape
        assert isinstance(size, int)
        return self._constant(f"{gamma.name}_beta", np.zeros(size, dtype.numpy()))

    def _constant(self, stem: str, numbers: np.ndarray) -> ir.Value:
        name = self._names.fresh(stem)
        return add_initializer(self._graph, name, ir.tensor(numbers, name=name))


def _sum(total: ir.Value) -> _Sum:
    """What ``total`` is the sum of, through sums that nothing else reads."""
    nodes: list[ir.Node] = []
    values: list[ir.Value] = []
    left = [total]
    while left:
        value = left.pop(0)
        node = value.producer()
        inner = value is total or (len(value.uses()) == 1 and not value.is_graph_output())
        if node is not None and inner and is_op(node, "Add", "Sum"):
            nodes.append(node)
            left += [each for each in node.inputs if each is not None]
        else:
            values.append(value)
    return _Sum(tuple(nodes), tuple(values))


def _obstacle(node: ir.Node, found: _Sum, addends: Sequence[Addend | None]) -> tuple[str, str]:
    """Why the sum before ``node`` cannot be a part of it, and the node in the way; or nothing."""
    for value, addend in zip(found.values, addends, strict=True):
        if addend is None:
            maker = value.producer()
            why = f"it adds '{value.name}', which is no row of a constant table"
            return why, "" if maker is None else name_of(maker)
    total = found.nodes[0].outputs[0]
    if total.is_graph_output():
        return "the sum is an output of the model", ""
    for user, _ in total.uses():
        if user is not node:
            return f"the sum is read by '{name_of(user)}' as well", name_of(user)
    return "", ""


def _gone(graph: ir.Graph, last: ir.Node, kept: set[ir.Value]) -> int:
    """How many nodes nothing reads once ``last`` is gone, ``kept`` values being read."""
    gone: set[ir.Node] = set()
    for node in reversed(graph):
        users = [user for value in node.outputs for user, _ in value.uses()]
        needed = any(value in kept or value.is_graph_output() for value in node.outputs)
        if node is last or (users and not needed and gone.issuperset(users)):
            gone.add(node)
    return len(gone)


def _told(dtype: ir.DataType | None) -> str:
    return "an unknown type" if dtype is None else dtype.name.lower()
