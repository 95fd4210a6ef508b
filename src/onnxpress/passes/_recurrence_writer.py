"""One LSTM or GRU in the place of its steps: inputs in a row, weights packed, results dealt out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpress.dims import Size
from onnxpress.modules import inherit
from onnxpress.passes._linear_sums import Source
from onnxpress.passes._rewriting import take
from onnxpress.shapes import Shapes
from onnxpress.values import Names, add_initializer, constant, is_op

MOVES = (
    "Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Of zeros they make zeros."""
KERNELS = (ir.DataType.FLOAT,)
"""What ONNX Runtime computes LSTM and GRU in: float64 is declared and refused when it runs."""


class Refusal(Exception):
    """Why the steps stay, and the node that is in the way, if it is one."""

    def __init__(self, why: str, blocking: ir.Node | None = None) -> None:
        super().__init__(why)
        self.blocking = blocking


@dataclass(frozen=True)
class Sequenced:
    """One input of a cell: what each step takes, and what the gates multiply it with."""

    sources: tuple[Source, ...]
    weights: tuple[np.ndarray | None, ...]

    @property
    def size(self) -> int:
        return _rows(self.weights)

    @property
    def places(self) -> list[int] | None:
        """Where each step's source lies in the one tensor that all are of; None for several."""
        same = {(source.value, source.axis) for source in self.sources}
        if len(same) != 1 or self.sources[0].axis < 0:
            return None
        return [source.place for source in self.sources]


@dataclass(frozen=True)
class Fused:
    """An operator to be: ``results`` step by step, the last ``state``, the first ``states``.

    ``bias`` is packed as the operator takes it, ``nodes`` are those that it is for.
    """

    op: str
    results: tuple[ir.Value, ...]
    state: ir.Value | None
    states: tuple[ir.Value | None, ...]
    inputs: tuple[Sequenced, ...]
    recurrent: tuple[np.ndarray | None, ...]
    bias: np.ndarray
    attributes: Mapping[str, int]
    nodes: frozenset[ir.Node]


def write(fused: Fused, graph: ir.Graph, shapes: Shapes, names: Names) -> None:
    """Raises ``Refusal``, and has changed nothing then. The graph is to be swept and sorted."""
    work = _Writer(fused, graph, shapes, names)
    work.check()
    work.write()


class _Writer:
    def __init__(self, fused: Fused, graph: ir.Graph, shapes: Shapes, names: Names) -> None:
        self._fused, self._graph, self._shapes, self._names = fused, graph, shapes, names
        self._steps, self._size = len(fused.results), _rows(fused.recurrent)
        last = fused.results[-1].producer()
        assert last is not None
        self._place, self._stem = last, str(last.name or last.outputs[0].name)
        runs = [data.places for data in fused.inputs]
        self._reverse = all(run is not None and _steps_of(run) == {-1} for run in runs)

    def check(self) -> None:
        """What the operator needs of types and sizes.

        Of an empty batch ONNX Runtime 1.31's LSTM and GRU end the process.
        """
        result = self._fused.results[-1]
        dtype, shape = self._shapes.dtype(result), self._shapes.shape(result)
        if dtype not in KERNELS:
            raise Refusal(f"it computes in {dtype}, which ONNX Runtime's {self._fused.op} does not")
        if shape is None or len(shape) != 2 or shape[1] != self._size:
            raise Refusal(f"its results are of {_told(shape)}")
        if shape[0] == 0:
            raise Refusal("its batch is empty")
        for state in self._fused.states:
            found = self._shapes.shape(state)
            if state is not None and found != shape and not self._is_zero(state):
                raise Refusal(
                    f"its first state is of {_told(found)}, its results of {_told(shape)}"
                )
        for data in self._fused.inputs:
            for source in data.sources:
                self._check_source(source, data, shape[0])

    def _check_source(self, source: Source, data: Sequenced, batch: Size) -> None:
        found = self._shapes.shape(source.value)
        if source.axis >= 0 and data.places is not None:
            if found is None or found[1 - source.axis] != batch:
                raise Refusal(f"its input is of {_told(found)}, its batch {batch}")
        elif source.made is None:
            raise Refusal("its inputs are of several tensors")
        elif self._shapes.shape(source.made) != (batch, data.size):
            raise Refusal(f"an input is of {_told(self._shapes.shape(source.made))}")

    def write(self) -> None:
        fused = self._fused
        rows = [self._sequence(data) for data in fused.inputs]
        data = rows[0] if len(rows) == 1 else self._node("Concat", rows, {"axis": 2})
        weights = np.concatenate([_packed(part.weights) for part in fused.inputs], axis=1)
        states = [
            None if state is None or self._is_zero(state) else self._reshaped(state, [1, -1])
            for state in fused.states
        ]
        inputs = [
            data,
            self._constant(weights[None], "weights"),
            self._constant(_packed(fused.recurrent)[None], "recurrent"),
            self._constant(fused.bias[None], "bias"),
            None,
            *states,
        ]
        while inputs[-1] is None:
            inputs.pop()
        attributes: dict[str, int | str] = {**fused.attributes, "hidden_size": self._size}
        if self._reverse:
            attributes["direction"] = "reverse"
        outputs = 2 if fused.state is None else 3
        node = ir.node(fused.op, inputs, attributes, num_outputs=outputs, name=self._stem)
        for value in node.outputs:
            value.name = self._names.fresh(f"{self._stem}_{fused.op.lower()}")
            value.type = fused.results[0].type
        self._place.prepend(inherit(node, self._place))
        self._shapes.learn(node)
        self._hand_out(node)

    def _sequence(self, data: Sequenced) -> ir.Value:
        """[steps, batch, size]."""
        places = data.places
        if places is None:
            made = [source.made for source in data.sources]
            joined = self._node("Concat", made, {"axis": 0})
            return self._reshaped(joined, [self._steps, -1, data.size])
        tensor, axis = data.sources[0].value, data.sources[0].axis
        if self._reverse:
            places = places[::-1]
        shape = self._shapes.shape(tensor)
        assert shape is not None
        if places != list(range(self._steps)) or shape[axis] != self._steps:
            index = self._integers(places)
            tensor = self._node("Gather", [tensor, index], {"axis": axis})
        return tensor if axis == 0 else self._node("Transpose", [tensor], {"perm": (1, 0, 2)})

    def _hand_out(self, node: ir.Node) -> None:
        """What was read of the steps, of the new node's outputs."""
        fused = self._fused
        order = {value: place for place, value in enumerate(fused.results)}
        rows: list[ir.Value] = []

        def row() -> ir.Value:
            """[steps, batch, size], made where it is needed first."""
            if not rows:
                shape = [self._steps, -1, self._size]
                rows.append(self._reshaped(node.outputs[0], shape))
            return rows[0]

        joins = [user for value in fused.results for user in self._joining(value)]
        for join in dict.fromkeys(joins):
            found = self._joined(join, order)
            if found is not None:
                take(join.outputs[0], self._stacked(row(), *found))
        dead = self._unread(dict.fromkeys(joins))
        read = [value for value in order if self._is_read(value, dead)]
        for value in read:
            # Readers of several steps find them in one tensor: the next layer's may be.
            if len(read) == 1 and value is fused.results[-1]:
                new = self._reshaped(node.outputs[1], [-1, self._size])
            else:
                index = self._integers(self._time(order[value]))
                new = self._node("Gather", [row(), index], {"axis": 0})
            take(value, new)
        if fused.state is not None and self._is_read(fused.state, dead):
            take(fused.state, self._reshaped(node.outputs[2], [-1, self._size]))

    def _joining(self, value: ir.Value) -> list[ir.Node]:
        """The Concats of results, each with a dimension for the steps or without."""
        found = []
        for user, _ in value.uses():
            if is_op(user, "Concat"):
                found.append(user)
            elif is_op(user, "Unsqueeze", "Reshape"):
                found += [node for node, _ in user.outputs[0].uses() if is_op(node, "Concat")]
        return [node for node in found if node.graph is self._graph]

    def _joined(
        self, node: ir.Node, order: Mapping[ir.Value, int]
    ) -> tuple[list[int], int, bool] | None:
        """Which steps' results are joined, along which axis, and whether it is one of its own."""
        shape = self._shapes.shape(node.outputs[0])
        if shape is None:
            return None
        axis, places = node.attributes.get_int("axis", 0) % len(shape), []
        for value in node.inputs:
            result = value if len(shape) == 2 else self._unsqueezed(value, axis)
            if result is None or result not in order:
                return None
            places.append(order[result])
        return places, axis, len(shape) == 3

    def _unsqueezed(self, value: ir.Value | None, axis: int) -> ir.Value | None:
        """What has no dimension ``axis`` yet."""
        node = None if value is None else value.producer()
        if node is None or not is_op(node, "Unsqueeze", "Reshape"):
            return None
        before, after = self._shapes.shape(node.inputs[0]), self._shapes.shape(value)
        if before is None or after is None or after != (*before[:axis], 1, *before[axis:]):
            return None
        return node.inputs[0]

    def _stacked(self, row: ir.Value, places: list[int], axis: int, own: bool) -> ir.Value:
        times = [self._time(place) for place in places]
        data, count = row, len(times)
        if times != list(range(self._steps)):
            data = self._node("Gather", [row, self._integers(times)], {"axis": 0})
        if axis == 1:
            data = self._node("Transpose", [data], {"perm": (1, 0, 2)})
        elif axis == 2:
            data = self._node("Transpose", [data], {"perm": (1, 2, 0)})
        if own:
            return data
        return self._reshaped(data, [-1, self._size if axis == 0 else self._size * count])

    def _time(self, step: int) -> int:
        return self._steps - 1 - step if self._reverse else step

    def _unread(self, joins: Mapping[ir.Node, None]) -> set[ir.Node]:
        """The nodes that go: the steps', the joins that have an heir and what led to them."""
        dead = set(self._fused.nodes)
        dead |= {node for node in joins if not node.outputs[0].uses() and not _is_output(node)}
        for value in self._fused.results:
            for user, _ in value.uses():
                readers = [node for out in user.outputs for node, _ in out.uses()]
                if readers and all(node in dead for node in readers) and not _is_output(user):
                    dead.add(user)
        return dead

    def _is_read(self, value: ir.Value, dead: set[ir.Node]) -> bool:
        return value.is_graph_output() or any(user not in dead for user, _ in value.uses())

    def _is_zero(self, value: ir.Value | None) -> bool:
        if value is None:
            return False
        array, node = constant(value), value.producer()
        if array is not None:
            return bool(array.size) and not array.any()
        if node is None:
            return False
        if is_op(node, "ConstantOfShape"):
            fill = node.attributes.get("value")
            return fill is None or not fill.as_tensor().numpy().any()
        return is_op(node, *MOVES) and self._is_zero(node.inputs[0])

    def _node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int | Sequence[int]] | None = None,
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes or {})
        node.name = self._names.fresh(f"{self._stem}_{op.lower()}")
        node.outputs[0].name, node.outputs[0].type = node.name, self._fused.results[0].type
        self._place.prepend(inherit(node, self._place))
        self._shapes.learn(node)
        return node.outputs[0]

    def _reshaped(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """One free dimension is -1: the others are no zeros, so that a batch may be of none."""
        wanted = [*shape, self._size] if list(shape) == [1, -1] else list(shape)
        return self._node("Reshape", [value, self._integers(wanted)])

    def _integers(self, numbers: int | Sequence[int]) -> ir.Value:
        name = self._names.fresh("steps")
        return add_initializer(self._graph, name, ir.tensor(np.array(numbers, np.int64), name=name))

    def _constant(self, array: np.ndarray, stem: str) -> ir.Value:
        dtype = self._shapes.dtype(self._fused.results[0])
        assert dtype is not None
        name = self._names.fresh(f"{self._stem}_{stem}")
        tensor = ir.tensor(np.ascontiguousarray(array, dtype.numpy()), name=name)
        return add_initializer(self._graph, name, tensor)


def _packed(weights: Sequence[np.ndarray | None]) -> np.ndarray:
    """[gates · size, what is multiplied]."""
    known = next(weight for weight in weights if weight is not None)
    zeros = np.zeros_like(known)
    return np.concatenate([(zeros if weight is None else weight).T for weight in weights])


def _rows(weights: Sequence[np.ndarray | None]) -> int:
    return next(len(weight) for weight in weights if weight is not None)


def _steps_of(places: Sequence[int]) -> set[int]:
    return {after - before for before, after in itertools.pairwise(places)}


def _is_output(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


def _told(shape: Sequence[Size] | None) -> str:
    return "an unknown shape" if shape is None else str([str(size) for size in shape])
