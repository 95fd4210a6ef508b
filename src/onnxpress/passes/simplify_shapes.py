"""The arithmetic that exporters compute shapes with: constants where it can be, once where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Dim
from onnxpress.model import Model
from onnxpress.passes._rewriting import replace, sweep
from onnxpress.passes._view_writer import reshape_target
from onnxpress.recipe import Change, Facts, Pass
from onnxpress.shapes import Shapes
from onnxpress.values import FREE_INITIALIZERS, Names, add_initializer, constant, is_op


@dataclass(frozen=True)
class SimplifyShapes(Pass):
    """``Reshape(x, Concat(Shape(x)[0], 12, 32))`` → ``Reshape(x, [0, -1, 32])``, and so on.

    A size that the data has at the same place is 0, one that nothing else tells is -1. Targets of
    ``Expand`` are 1 where the data has the size already. Of several values that hold the same
    sizes, polynomials of the model's free dimensions, the first is kept.
    """

    def rewrite(self, model: Model, facts: Facts) -> Change:
        rewrites = 0
        while True:  # constants make more known
            work = _Work(model.ir)
            for visit in (work.gathered, work.visit):
                for node in list(model.ir.graph):
                    visit(node)
            if not work.rewrites:
                return Change(rewrites)
            sweep(model.ir)
            model.ir.ir_version = max(model.ir.ir_version, FREE_INITIALIZERS)
            rewrites += work.rewrites


class _Work:
    """The values of one graph that hold sizes; those of subgraphs are left as they are."""

    def __init__(self, model: ir.Model) -> None:
        self.rewrites = 0
        self._graph = model.graph
        self._shapes, self._names = Shapes(model), Names(model)
        self._targets: dict[tuple[int, ...], ir.Value] = {}
        self._first: dict[object, ir.Value] = {}

    def visit(self, node: ir.Node) -> None:
        if is_op(node, "Reshape", "Expand") and constant(node.inputs[1]) is None:
            target = self._reshape(node) if is_op(node, "Reshape") else self._expand(node)
            if target is not None:
                self._replace(node, 1, self._target(target))
                node.attributes.pop("allowzero", None)
                return
        for value in node.outputs:
            self._unify(value)

    def gathered(self, node: ir.Node) -> None:
        """``Unsqueeze(Gather(s, i))`` of sizes as ``Gather(s, [i])``."""
        value = node.inputs[0] if is_op(node, "Unsqueeze") else None
        gather = None if value is None else value.producer()
        if gather is None or value is None or not is_op(gather, "Gather"):
            return
        sizes, index = self._shapes.elements(gather.inputs[0]), constant(gather.inputs[1])
        alone = len(value.uses()) == 1 and not value.is_graph_output()
        if sizes is None or sizes.ndim != 1 or index is None or index.ndim != 0 or not alone:
            return
        place = self._target([int(index)])
        made = replace(node.outputs[0], "Gather", [gather.inputs[0], place], gone=[node, gather])
        self._shapes.learn(made)
        self.rewrites += 1

    def _unify(self, value: ir.Value) -> None:
        """A constant where all is known, else the first value that holds the same."""
        elements, dtype = self._shapes.elements(value), self._shapes.dtype(value)
        if elements is None or dtype is None or value.is_graph_output() or not value.uses():
            return
        key = dtype, elements.shape, tuple(elements.flat)
        if key not in self._first:
            known = not any(isinstance(size, Dim) for size in elements.flat)
            self._first[key] = self._constant(elements, dtype) if known else value
        if self._first[key] is not value:
            value.replace_all_uses_with(self._first[key])
            self.rewrites += 1

    def _replace(self, node: ir.Node, index: int, new: ir.Value) -> None:
        node.replace_input_with(index, new)
        self.rewrites += 1

    def _reshape(self, node: ir.Node) -> list[int] | None:
        """The constant target: 0 copies the data's size, -1 is what remains."""
        data, target = node.inputs[0], self._shapes.elements(node.inputs[1])
        shape, made = self._shapes.shape(data), self._shapes.shape(node.outputs[0])
        if shape is None or made is None or target is None:
            return None
        return reshape_target(shape, made)

    def _expand(self, node: ir.Node) -> list[int] | None:
        shape, target = self._shapes.shape(node.inputs[0]), self._shapes.elements(node.inputs[1])
        if shape is None or target is None or target.size < len(shape):
            return None
        own = (1,) * (target.size - len(shape)) + tuple(shape)
        wanted = [1 if want == have else want for want, have in zip(target, own, strict=True)]
        return wanted if all(isinstance(size, int) for size in wanted) else None

    def _constant(self, numbers: np.ndarray, dtype: ir.DataType) -> ir.Value:
        name = self._names.fresh("shape")
        tensor = ir.tensor(numbers.astype(dtype.numpy()), name=name)
        return add_initializer(self._graph, name, tensor)

    def _target(self, target: Sequence[int]) -> ir.Value:
        key = tuple(target)
        if key not in self._targets:
            numbers = np.array(key, np.int64)
            self._targets[key] = self._constant(numbers, ir.DataType.INT64)
        return self._targets[key]
