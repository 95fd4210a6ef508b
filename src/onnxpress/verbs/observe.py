"""Runs a model on samples and keeps what its float activations looked like.

The graph itself reduces each activation to its bounds and a random sample before it hands
anything out: memory depends neither on the number of samples nor on how many are watched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpress import registry
from onnxpress.engine import Engine, require
from onnxpress.model import Model
from onnxpress.observed import Channels, Moments, Observed
from onnxpress.quantization import constant_weight, is_odd_gemm
from onnxpress.settings import Settings
from onnxpress.shapes import Shapes
from onnxpress.signature import Feeds
from onnxpress.values import Names, add_initializer, is_op, opset

ENGINE = "onnxruntime"
MOST_VALUES, MOST_ROWS = 1 << 14, 64
"""The most values and rows of one activation that are sampled from one batch."""
ROWS_VALUES, FEWEST_ROWS = 1 << 18, 32
"""Of one activation rows of no more values altogether are kept, but so many rows at least."""
REDUCTION_OPSET = 18
"""The first opset whose reductions take their axes as an input."""
OPSET = 11
"""The first opset with all that the reduction needs; of older models whole activations are read."""
SEQUENCES = (
    "Optional",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
)
"""What makes lists of tensors; onnx-ir's shape inference takes each for one tensor."""


@dataclass
class Seen:
    """``tensors``: of every float activation; ``rows``: of what MatMul and Gemm multiply.

    ``moments``: of the channels of what linear operators with constant weights read.
    """

    tensors: dict[str, Observed] = field(default_factory=dict)
    rows: dict[str, Channels] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    batches: int = 0


def observe(
    model: Model,
    batches: Iterable[Feeds],
    threads: int | None = None,
    rows: int = 0,
    seed: int = 0,
    *,
    channels: bool = False,
) -> Seen:
    """Run ``model`` on each batch; with ``rows`` that many rows of each matrix are kept as well.

    ``channels`` tells whether the moments of each channel are. Samples are drawn by ``seed``.
    Raises ``EngineError`` where ONNX Runtime is missing or cannot run the model, ``SamplesError``
    for a batch that does not fit.
    """
    engine = registry.create(Engine, "engines", ENGINE)
    require(engine, ENGINE)
    taps = _Taps(model, with_rows=rows > 0, with_channels=channels)
    rng, seen = np.random.default_rng(seed), Seen()
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = taps.model.save(Path(folder) / "tapped.onnx")
        settings = Settings(ENGINE, threads=threads, custom_ops=model.custom_ops)
        with engine.open(path, settings) as session:
            for feeds in batches:
                model.signature.check(feeds)
                start = {taps.start: np.array([rng.integers(1 << 40)])} if taps.start else {}
                outputs = session.run({**feeds, **start})
                seen.batches += 1
                for name, parts in taps.values.items():
                    _see(seen.tensors.setdefault(name, Observed()), [outputs[p] for p in parts])
                for name, parts in taps.rows.items():
                    low, high, some = (outputs[part] for part in parts)
                    most = min(rows, max(FEWEST_ROWS, ROWS_VALUES // max(1, len(low))))
                    seen.rows.setdefault(name, Channels(most, seed)).add(low, high, some)
                for name, parts in taps.channels.items():
                    low, high, mean, square, size = (outputs[part] for part in parts)
                    count = size.item() // max(1, len(low))
                    seen.moments.setdefault(name, Moments()).add(low, high, mean, square, count)
    seen.tensors = {name: each for name, each in seen.tensors.items() if not each.empty}
    seen.moments = {name: each for name, each in seen.moments.items() if each.count}
    return seen


def tapped(model: Model, tensors: Sequence[str], feeds: Feeds) -> Feeds:
    """The values of ``tensors`` of the main graph, whole, when ``model`` runs on ``feeds``.

    The engine does not fuse across what is read. Raises ``EngineError``.
    """
    clone = model.clone()
    graph = clone.ir.graph
    values = {value.name: value for node in graph for value in node.outputs}
    read = [values[name] for name in tensors if name in values]
    for value in read:
        if not value.is_graph_output():
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(value)
    engine = registry.create(Engine, "engines", ENGINE)
    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path = clone.save(Path(folder) / "tapped.onnx")
        with engine.open(path, Settings(ENGINE, custom_ops=model.custom_ops)) as session:
            found = {**feeds, **session.run(feeds)}
    return {name: found[name] for name in tensors if name in found}


def _see(observed: Observed, parts: list[np.ndarray]) -> None:
    if len(parts) == 1:
        observed.see(parts[0])
        return
    low, high, sample, size = parts
    if size.item():
        observed.add(low.item(), high.item(), sample, size.item())


class _Taps:
    """A clone of a model that hands out what ``Observed``, ``Channels`` and ``Moments`` keep.

    ``start`` is an input more: where in each activation sampling starts. ``values``, ``rows`` and
    ``channels`` map the name of an activation to those of the outputs that tell of it.
    """

    def __init__(self, model: Model, *, with_rows: bool, with_channels: bool) -> None:
        self.model = model.clone()
        passes.ShapeInferencePass(check_type=False, strict_mode=False)(self.model.ir)
        self._graph, self._names = self.model.ir.graph, Names(self.model.ir)
        self.values: dict[str, list[str]] = {}
        self.rows: dict[str, list[str]] = {}
        self.channels: dict[str, list[str]] = {}
        self.start = ""
        floats = self._floats()
        if opset(self.model.ir) < OPSET:
            for value in floats:
                self.values[str(value.name)] = [self._whole(value)]
            return
        matrices = self._matrices() if with_rows else {}
        layered = self._layered() if with_channels else {}
        self._start = ir.Value(
            name=self._names.fresh("sampling_start"),
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([1]),
        )
        self.start = str(self._start.name)
        self._graph.inputs.append(self._start)
        self._known: dict[tuple[int, ...], ir.Value] = {}
        for value in floats:
            self.values[str(value.name)] = self._reduced(value)
        for value, width in matrices.items():
            self.rows[str(value.name)] = self._rows(value, width)
        for value, sizes in layered.items():
            self.channels[str(value.name)] = self._moments(value, *sizes)

    def _floats(self) -> list[ir.Value]:
        """The float activations of the main graph: inputs, and all that its nodes compute."""
        shapes = Shapes(self.model.ir)
        found = [value for value in self._graph.inputs if not value.is_initializer()]
        for node in self._graph:
            for value in node.outputs:
                if is_op(node, *SEQUENCES):
                    value.type = value.shape = None
                elif value.type is None:  # behind operators that onnx does not know
                    dtype = shapes.dtype(value)
                    value.type = None if dtype is None else ir.TensorType(dtype)
                if value.uses() or value.is_graph_output():
                    found.append(value)
        return [
            value
            for value in found
            if value.dtype == ir.DataType.FLOAT and isinstance(value.type, ir.TensorType)
        ]

    def _matrices(self) -> dict[ir.Value, int]:
        """What is multiplied by a constant matrix, and how many columns it has."""
        found: dict[ir.Value, int] = {}
        for node in self._graph:
            weight = constant_weight(node)
            if weight is None or weight.ndim != 2 or not is_op(node, "MatMul", "Gemm"):
                continue
            if is_odd_gemm(node):
                continue
            transposed = is_op(node, "Gemm") and bool(node.attributes.get_int("transB", 0))
            source = node.inputs[0]
            assert source is not None
            found[source] = weight.shape[1 if transposed else 0]
        return found

    def _layered(self) -> dict[ir.Value, tuple[int, int]]:
        """What linear operators read; rank and channels of convolutions' (axis 1), or 2 and columns.

        What two of them take in different ways is left out.
        """  # noqa: E501  # the shortest that tells it
        found: dict[ir.Value, set[tuple[int, int]]] = {}
        for node in self._graph:
            weight = constant_weight(node)
            if weight is None or is_odd_gemm(node) or (is_op(node, "MatMul") and weight.ndim != 2):
                continue
            turned = bool(node.attributes.get_int("transB", 0)) if is_op(node, "Gemm") else False
            groups = node.attributes.get_int("group", 1) if is_op(node, "Conv") else 1
            place = 1 if turned or is_op(node, "Conv") else 0
            source = node.inputs[0]
            assert source is not None
            found.setdefault(source, set()).add((weight.ndim, weight.shape[place] * groups))
        return {value: each.pop() for value, each in found.items() if len(each) == 1}

    def _whole(self, value: ir.Value) -> str:
        if not (value.is_graph_output() or value.is_graph_input()):
            self._graph.outputs.append(value)
            return str(value.name)
        return self._output(self._node("Identity", [value]), ir.DataType.FLOAT)

    def _reduced(self, value: ir.Value) -> list[str]:
        """Its least and largest value, every step-th value from a random one on, how many are."""
        flat = self._node("Reshape", [value, self._integer(-1)])
        size = self._node("Shape", [flat])
        # An odd step walks through all columns of a tensor whose sizes are powers of 2.
        half = self._node("Div", [size, self._integer(2 * MOST_VALUES)])
        step = self._node("Add", [self._node("Mul", [half, self._integer(2)]), self._integer(1)])
        sample = self._strided(flat, step)
        bounds = [self._node(op, [value], {"keepdims": 0}) for op in ("ReduceMin", "ReduceMax")]
        told = [(bound, ir.DataType.FLOAT) for bound in (*bounds, sample)]
        return [self._output(*each) for each in (*told, (size, ir.DataType.INT64))]

    def _rows(self, value: ir.Value, width: int) -> list[str]:
        """Each column's least and largest value, and some rows."""
        shape = self._integer(-1, width)
        matrix = self._node("Reshape", [value, shape])
        count = self._node(
            "Slice", [self._node("Shape", [matrix]), self._integer(0), self._integer(1)]
        )
        step = self._node(
            "Add", [self._node("Div", [count, self._integer(MOST_ROWS)]), self._integer(1)]
        )
        low, high = (self._along(op, matrix, 0) for op in ("ReduceMin", "ReduceMax"))
        return [
            self._output(each, ir.DataType.FLOAT)
            for each in (low, high, self._strided(matrix, step))
        ]

    def _moments(self, value: ir.Value, rank: int, channels: int) -> list[str]:
        """Least, largest and mean value and mean square of each channel, and how many values."""
        if rank == 2:
            value = self._node("Reshape", [value, self._integer(-1, channels)])
        axes = [axis for axis in range(rank) if axis != 1]
        bounds = [self._along(op, value, *axes) for op in ("ReduceMin", "ReduceMax", "ReduceMean")]
        square = self._along("ReduceMean", self._node("Mul", [value, value]), *axes)
        size = self._output(self._node("Size", [value]), ir.DataType.INT64)
        return [*(self._output(each, ir.DataType.FLOAT) for each in (*bounds, square)), size]

    def _along(self, op: str, value: ir.Value, *axes: int) -> ir.Value:
        """``value`` reduced over ``axes``, which go."""
        if opset(self.model.ir) < REDUCTION_OPSET:
            return self._node(op, [value], {"axes": list(axes), "keepdims": 0})
        return self._node(op, [value, self._integer(*axes)], {"keepdims": 0})

    def _strided(self, value: ir.Value, step: ir.Value) -> ir.Value:
        start = self._node("Mod", [self._start, step])
        end, axis = self._integer(np.iinfo(np.int64).max), self._integer(0)
        return self._node("Slice", [value, start, end, axis, step])

    def _integer(self, *numbers: int) -> ir.Value:
        if numbers not in self._known:
            name = self._names.fresh("sampling_constant")
            self._known[numbers] = add_initializer(
                self._graph, name, ir.tensor(np.array(numbers, np.int64), name=name)
            )
        return self._known[numbers]

    def _node(
        self, op: str, inputs: list[ir.Value], attributes: dict[str, object] | None = None
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes or {})  # type: ignore[arg-type]  # ints and lists
        output = node.outputs[0]
        output.name = self._names.fresh(f"sampling_{op}")
        self._graph.append(node)
        return output

    def _output(self, value: ir.Value, dtype: ir.DataType) -> str:
        value.type = ir.TensorType(dtype)
        self._graph.outputs.append(value)
        return str(value.name)
