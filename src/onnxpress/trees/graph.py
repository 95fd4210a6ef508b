"""A forest as ONNX: TreeEnsembleRegressor adds the leaves up, plain operators do the rest.

Written for ONNX Runtime: a chain of tests is one node per test whose true branches meet in one
child, which it reads as membership; a false branch is never shared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxpress.opsets import nearest
from onnxpress.trees.forest import Forest, Leaf, Tree

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
OLDEST_OPSET = 13
INPUT, LABEL, PROBABILITIES, PREDICTION = "X", "label", "probabilities", "prediction"


class Graph:
    """Nodes and constants under construction; every name begins with ``prefix``."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def add(self, op: str, *inputs: str, output: str = "", domain: str = "", **fields: Any) -> str:
        """A node; the name of its output."""
        output = output or self._name(op)
        name = self._name(f"{op}_node")
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=name, domain=domain, **fields)
        )
        return output

    def constant(self, array: np.ndarray) -> str:
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def _name(self, stem: str) -> str:
        return f"{self._prefix}{stem.lower()}_{len(self.nodes)}_{len(self.constants)}"


def write(
    graph: Graph, forest: Forest, features: str, outputs: tuple[str, ...], *, raw: bool = False
) -> None:
    """Add ``forest`` on the float32 matrix ``features``.

    ``outputs`` names label (int64 or string, [batch]) and probabilities (float32, [batch,
    classes]) of a classifier, or the prediction (float32, [batch, targets]). ``raw`` gives a
    classifier's raw scores (of two classes -score, score) in place of probabilities.
    """
    if not math.isnan(forest.missing):
        sentinel = graph.constant(np.array(forest.missing, np.float32))
        nan = graph.constant(np.array(np.nan, np.float32))
        features = graph.add("Where", graph.add("Equal", features, sentinel), nan, features)
    if forest.codes != "exact":
        features = _whole(graph, forest, features)
    scores = graph.add("TreeEnsembleRegressor", features, domain=ML_DOMAIN, **_attributes(forest))
    if forest.classes is None:
        _link(graph, forest, scores, outputs[0])
        return
    label, probabilities = outputs
    if len(forest.base) == 1:
        zero = graph.constant(np.zeros(1, np.float32))
        decide = "GreaterOrEqual" if forest.tie_to_second else "Greater"
        second = graph.add("Cast", graph.add(decide, scores, zero), to=TensorProto.INT64)
        index = graph.add("Reshape", second, graph.constant(np.array([-1])))
        if raw:
            negative = graph.add("Neg", scores)
            graph.add("Concat", negative, scores, output=probabilities, axis=1)
        else:
            _two(graph, _link(graph, forest, scores), probabilities)
    else:
        index = graph.add("ArgMax", scores, axis=1, keepdims=0)
        if raw:
            graph.add("Identity", scores, output=probabilities)
        else:
            _link(graph, forest, scores, probabilities)
    strings = isinstance(forest.classes[0], str)
    classes = np.array(forest.classes, object if strings else np.int64)
    graph.add("Gather", graph.constant(classes), index, output=label)


def _whole(graph: Graph, forest: Forest, features: str) -> str:
    """``features`` with whole numbers where categories are asked for."""
    mask = np.zeros((1, forest.features), np.bool_)
    for _, _, split in forest.splits():
        mask[0, split.feature] |= split.tests[0].mode == "EQ"
    if not mask.any():
        return features
    if forest.codes == "floor":
        whole = graph.add("Floor", features)
    else:
        sizes = graph.add("Floor", graph.add("Abs", features))
        whole = graph.add("Mul", graph.add("Sign", features), sizes)
    return graph.add("Where", graph.constant(mask), whole, features)


def _two(graph: Graph, second: str, output: str) -> None:
    """Both classes' probabilities from the second's."""
    first = graph.add("Sub", graph.constant(np.ones(1, np.float32)), second)
    graph.add("Concat", first, second, output=output, axis=1)


def _link(graph: Graph, forest: Forest, raw: str, output: str = "") -> str:
    if forest.scale != 1:
        raw = graph.add("Mul", raw, graph.constant(np.array([forest.scale], np.float32)))
    match forest.link:
        case "mean":
            divisor = graph.constant(np.array([forest.divisor], np.float32))
            return graph.add("Div", raw, divisor, output=output)
        case "softmax":
            return graph.add("Softmax", raw, output=output, axis=1)
        case "square":
            return graph.add("Mul", raw, graph.add("Abs", raw), output=output)
        case _:
            return graph.add(forest.link.capitalize(), raw, output=output)


def model_of(
    forest: Forest, opset: int | None = None, batch: int | str = "batch"
) -> onnx.ModelProto:
    """A whole model: ``X`` float32 [batch, features] to the outputs that ``write`` names.

    An opset before 13 is written as 13.
    """
    graph = Graph()
    names = (PREDICTION,) if forest.classes is None else (LABEL, PROBABILITIES)
    write(graph, forest, INPUT, names)
    info = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, forest.features])
    return ensemble_model(graph, forest, [info], names, opset, batch)


def ensemble_model(
    graph: Graph,
    forest: Forest,
    inputs: list[onnx.ValueInfoProto],
    names: tuple[str, ...],
    opset: int | None,
    batch: int | str,
) -> onnx.ModelProto:
    """``graph``, which ends with what ``write`` made of ``forest``, as a model."""
    opset = nearest(opset, OLDEST_OPSET, onnx.defs.onnx_opset_version())
    columns = max(len(forest.base), len(forest.classes or ()))
    outputs = [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [batch, columns])]
    if forest.classes is not None:
        kind = TensorProto.STRING if isinstance(forest.classes[0], str) else TensorProto.INT64
        outputs.insert(0, helper.make_tensor_value_info(names[0], kind, [batch]))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    return helper.make_model(
        helper.make_graph(graph.nodes, "trees", inputs, outputs, graph.constants),
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="onnxpress",
    )


def _attributes(forest: Forest) -> dict[str, Any]:
    flat = _Flat()
    for number, tree in enumerate(forest.trees):
        flat.add(number, tree)
    if not forest.trees:
        flat.add(0, [Leaf((0,), (0.0,))])
    return {
        **{f"nodes_{key}": values for key, values in flat.nodes.items()},
        **{f"target_{key}": values for key, values in flat.targets.items()},
        "n_targets": len(forest.base),
        "base_values": [float(value) for value in forest.base],
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


class _Flat:
    """The attributes of TreeEnsembleRegressor, filled tree by tree."""

    def __init__(self) -> None:
        keys = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids",
                "falsenodeids", "missing_value_tracks_true")  # fmt: skip
        self.nodes: dict[str, list[Any]] = {key: [] for key in keys}
        self.targets: dict[str, list[Any]] = {
            key: [] for key in ("treeids", "nodeids", "ids", "weights")
        }

    def add(self, number: int, tree: Tree) -> None:
        """A split takes one node per test, so first every node's place is counted."""
        places, place = [], 0
        for node in tree:
            places.append(place)
            place += 1 if isinstance(node, Leaf) else len(node.tests)
        for index, node in zip(places, tree, strict=True):
            if isinstance(node, Leaf):
                self._node(number, index, 0, "LEAF", 0.0, 0, 0, 0)
                for target, weight in zip(node.targets, node.weights, strict=True):
                    for key, value in zip(
                        self.targets, (number, index, target, weight), strict=True
                    ):
                        self.targets[key].append(value)
                continue
            sides = {True: places[node.left], False: places[node.right]}
            for offset, test in enumerate(node.tests):
                last = offset == len(node.tests) - 1
                after = sides[node.rest_left] if last else index + offset + 1
                self._node(
                    number, index + offset, node.feature, f"BRANCH_{test.mode}", test.value,
                    sides[test.left], after, int(test.missing),
                )  # fmt: skip

    def _node(self, *values: object) -> None:
        for key, value in zip(self.nodes, values, strict=True):
            self.nodes[key].append(value)
