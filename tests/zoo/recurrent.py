"""Unrolled recurrent cells, in the ways that people and exporters write them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxpress.model import Model

TYPES = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT}
TYPES |= {np.float64: TensorProto.DOUBLE}
PACKINGS = ("stacked", "joined", "separate", "ahead")
"""One product each of x and h for all gates; one of both together; one each for each gate; as
stacked, x's before the first step."""
READINGS = ("gather", "slice", "split", "backward", "time first", "several")
"""How a step gets its input."""
ENDINGS = ("last", "stack", "stack time first", "concat", "each")
"""What is read of the steps' results."""


@dataclass(frozen=True)
class Unrolled:
    """A graph of ``steps`` steps: x [n, steps, inputs] → y, and c [n, hidden] of an LSTM."""

    cell: str = "LSTM"
    order: str = "ifgo"
    packing: str = "stacked"
    reading: str = "gather"
    ending: str = "last"
    steps: int = 3
    inputs: int = 3
    hidden: int = 4
    bias: bool = True
    given: bool = False
    split: str = "before"
    mix: int = 0
    reset: str = "after"
    batch: int | str = "n"
    dtype: type = np.float32
    opset: int = 17
    seed: int = 0
    swaps: tuple[tuple[str, str], ...] = field(default=())
    """Operators to put in the place of others, in the second step: ``("Tanh", "Relu")``."""

    def but(self, **changes: object) -> Unrolled:
        return replace(self, **changes)  # type: ignore[arg-type]  # as dataclasses has it

    def feeds(self, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
        chance = np.random.default_rng(seed)
        shape = (batch, self.steps, self.inputs)
        found = {"x": chance.standard_normal(shape[-3:])}
        if self.reading == "time first":
            found["x"] = found["x"].transpose(1, 0, 2)
        if self.given:
            found["h0"] = chance.standard_normal((batch, self.hidden))
            if self.cell == "LSTM":
                found["c0"] = chance.standard_normal((batch, self.hidden))
        return {name: np.ascontiguousarray(array, self.dtype) for name, array in found.items()}

    def model(self) -> Model:
        return Model(ir.from_proto(_Writer(self).proto()))


class _Writer:
    def __init__(self, made: Unrolled) -> None:
        self.made, self.chance = made, np.random.default_rng(made.seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.swaps: dict[str, str] = {}
        sizes = (made.inputs, made.hidden)
        shapes = {(side, gate): (size, made.hidden) for side, size in zip("xh", sizes, strict=True)
                  for gate in made.order}  # fmt: skip
        self.weights = {key: self.drawn(shape) for key, shape in shapes.items()}
        self.biases = {key: self.drawn((made.hidden,)) for key in shapes}

    def drawn(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.chance.standard_normal(shape).astype(self.made.dtype)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        kind = self.swaps.get(kind, kind)
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, names[0], **attributes))
        return names[0]

    def parts(self, value: str, axis: int, count: int) -> list[str]:
        first = self.op("Split", value, outputs=count, axis=axis)
        return [first[:-1] + str(i) for i in range(count)]

    def const(self, array: object, dtype: type | None = None) -> str:
        found = np.asarray(array, dtype or self.made.dtype)
        for tensor in self.tensors:
            known = numpy_helper.to_array(tensor)
            if known.dtype == found.dtype and np.array_equal(known, found):
                return tensor.name
        self.tensors.append(numpy_helper.from_array(found, f"k{len(self.tensors)}"))
        return self.tensors[-1].name

    def proto(self) -> onnx.ModelProto:
        made = self.made
        results, state = self.run(self.frames())
        outputs = ["y"]
        # Of a direction against time the results are put back in time's order.
        self.end(
            results[::-1] if made.reading == "backward" and "stack" in made.ending else results
        )
        if made.ending == "each":
            outputs = [f"y{i}" for i in range(made.steps)]
        if made.cell == "LSTM":
            self.nodes.append(helper.make_node("Identity", [state], ["c"]))
            outputs.append("c")
        kind = TYPES[made.dtype]
        x = [made.batch, made.steps, made.inputs]
        if made.reading == "time first":
            x[:2] = x[1::-1]
        inputs = [helper.make_tensor_value_info("x", kind, x)]
        states = ("h0", "c0") if made.cell == "LSTM" else ("h0",)
        state = [made.batch, made.hidden]
        inputs += [helper.make_tensor_value_info(s, kind, state) for s in states if made.given]
        graph = helper.make_graph(
            self.nodes, "g", inputs,
            [helper.make_tensor_value_info(name, kind, None) for name in outputs], self.tensors,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", made.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(proto)

    def frames(self) -> list[str]:
        """What each step takes, [n, inputs]; of ``ahead`` its products."""
        made, data, axis = self.made, "x", 0 if self.made.reading == "time first" else 1
        if made.packing == "ahead":
            data = self.op("MatMul", "x", self.const(self.stacked("x")))
            data = self.op("Add", data, self.const(self.bias("x"))) if made.bias else data
        times = list(range(made.steps))
        if made.reading == "split":
            axes = self.const([axis], np.int64)
            return [self.op("Squeeze", part, axes) for part in self.parts(data, axis, made.steps)]
        if made.reading == "slice":
            ends = [self.const([t], np.int64) for t in range(made.steps + 1)]
            axes = self.const([axis], np.int64)
            cuts = [self.op("Slice", data, a, b, axes) for a, b in itertools.pairwise(ends)]
            return [self.op("Squeeze", cut, axes) for cut in cuts]
        if made.reading == "backward":
            times.reverse()
        frames = [self.op("Gather", data, self.const(t, np.int64), axis=axis) for t in times]
        return [self.op("Sin", frame) for frame in frames] if made.reading == "several" else frames

    def zeros(self) -> str:
        made = self.made
        if isinstance(made.batch, int):
            return self.const(np.zeros((made.batch, made.hidden)))
        axis = 1 if made.reading == "time first" else 0
        shape = self.op("Shape", "x")
        rows = self.op("Gather", shape, self.const([axis], np.int64))
        whole = self.op("Concat", rows, self.const([made.hidden], np.int64), axis=0)
        fill = numpy_helper.from_array(np.zeros(1, made.dtype))
        return self.op("ConstantOfShape", whole, value=fill)

    def run(self, frames: Sequence[str]) -> tuple[list[str], str]:
        made = self.made
        h = c = "h0" if made.given else self.zeros()
        if made.given:
            c = "c0"
        results = []
        for index, frame in enumerate(frames):
            self.swaps = dict(made.swaps) if index == 1 else {}
            if made.cell == "LSTM":
                h, c = self.lstm(frame, h, c)
            else:
                h = self.gru(frame, h)
            results.append(h)
        self.swaps = {}
        return results, c

    def lstm(self, x: str, h: str, c: str) -> tuple[str, str]:
        gates = self.gates(x, h, self.made.order)
        gates = {
            name: value if self.made.split == "after" and name != "g" else
            self.op("Tanh" if name == "g" else "Sigmoid", value)
            for name, value in gates.items()
        }  # fmt: skip
        kept, new = self.op("Mul", gates["f"], c), self.op("Mul", gates["i"], gates["g"])
        c = self.op("Add", kept, new)
        return self.op("Mul", gates["o"], self.op("Tanh", c)), c

    def gru(self, x: str, h: str) -> str:
        made = self.made
        order = "".join(gate for gate in made.order if gate != "n")
        gates = self.gates(x, h, order)
        z, r = (self.op("Sigmoid", gates[name]) for name in "zr")
        if made.reset == "after":
            n = self.op("Add", self.one("x", x, "n"), self.op("Mul", r, self.one("h", h, "n")))
        else:
            n = self.op("Add", self.one("x", x, "n"), self.one("h", self.op("Mul", r, h), "n"))
        n = self.op("Tanh", n)
        z, old, new = (z, h, n) if made.mix < 3 else (z, n, h)
        if made.mix % 3 == 0:
            return self.op("Add", new, self.op("Mul", z, self.op("Sub", old, new)))
        if made.mix % 3 == 1:
            return self.op("Sub", new, self.op("Mul", z, self.op("Sub", new, old)))
        other = self.op("Mul", self.op("Sub", self.const(1), z), new)
        return self.op("Add", other, self.op("Mul", z, old))

    def gates(self, x: str, h: str, order: str) -> dict[str, str]:
        """What the activations take; of ``split == "after"`` what Sigmoids make, and g."""
        made = self.made
        if made.packing == "separate":
            return {g: self.op("Add", self.one("x", x, g), self.one("h", h, g)) for g in order}
        if made.packing == "joined":
            weight = np.concatenate([self.stacked("x", order), self.stacked("h", order)])
            joined = self.op("Concat", x, h, axis=1)
            total = self.op("MatMul", joined, self.const(weight))
            if made.bias:
                total = self.op("Add", self.const(self.bias("x", order)), total)
        else:
            total = self.op("Add", self.product("x", x, order), self.product("h", h, order))
        if made.split == "after":
            sigma = self.op("Sigmoid", total)
            found = dict(zip(order, self.parts(sigma, 1, len(order)), strict=True))
            if "g" in order:
                place = order.index("g") * made.hidden
                span = [self.const([n], np.int64) for n in (place, place + made.hidden, 1)]
                found["g"] = self.op("Slice", total, *span)
            return found
        return dict(zip(order, self.parts(total, 1, len(order)), strict=True))

    def product(self, side: str, data: str, order: str) -> str:
        made = self.made
        if side == "x" and made.packing == "ahead":
            if order == made.order:
                return data
            span = [self.const([n], np.int64) for n in (0, made.hidden * len(order), 1)]
            return self.op("Slice", data, *span)
        weight = self.stacked(side, order)
        if not made.bias:
            return self.op("MatMul", data, self.const(weight))
        parts = [self.const(weight.T), self.const(self.bias(side, order))]
        return self.op("Gemm", data, *parts, transB=1)

    def one(self, side: str, data: str, gate: str) -> str:
        """The product for one gate."""
        made = self.made
        if side == "x" and made.packing == "ahead":
            place = made.order.index(gate) * made.hidden
            span = [self.const([n], np.int64) for n in (place, place + made.hidden, 1)]
            return self.op("Slice", data, *span)
        product = self.op("MatMul", data, self.const(self.weights[side, gate]))
        return (
            self.op("Add", product, self.const(self.biases[side, gate])) if made.bias else product
        )

    def stacked(self, side: str, order: str = "") -> np.ndarray:
        return np.concatenate([self.weights[side, g] for g in order or self.made.order], axis=1)

    def bias(self, side: str, order: str = "") -> np.ndarray:
        return np.concatenate([self.biases[side, g] for g in order or self.made.order])

    def end(self, results: Sequence[str]) -> None:
        made = self.made
        if made.ending == "each":
            for index, value in enumerate(results):
                self.nodes.append(helper.make_node("Identity", [value], [f"y{index}"]))
            return
        if made.ending == "last":
            y = results[-1]
        elif made.ending == "concat":
            y = self.op("Concat", *results, axis=1)
        else:
            axis = 0 if made.ending == "stack time first" else 1
            axes = self.const([axis], np.int64)
            y = self.op("Concat", *(self.op("Unsqueeze", h, axes) for h in results), axis=axis)
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
