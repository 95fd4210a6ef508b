"""skl2onnx's writer of nearest neighbours, with weights by distance as scikit-learn has them.

skl2onnx 1.20 bounds the negative of each distance from below by 1e-6, so that all weigh the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx.operator_converters import nearest_neighbours

from onnxpress.sources._sklearn.container import Wrapped, put
from onnxpress.trees.graph import Graph

Convert = Callable[[Any, Any, Any], None]


def _with_weights(convert: Convert) -> Convert:
    def converted(scope: Any, operator: Any, container: Any) -> None:
        graph = Graph(scope.get_unique_operator_name("neighbours") + "_")
        by_distance = operator.raw_operator.weights == "distance"
        convert(scope, operator, _WeightContainer(container, graph) if by_distance else container)

    return converted


convert_classifier = _with_weights(nearest_neighbours.convert_nearest_neighbors_classifier)
convert_regressor = _with_weights(nearest_neighbours.convert_nearest_neighbors_regressor)


class _WeightContainer(Wrapped):
    """1/d for the reciprocal of the bounded -d; with a distance of 0, only those of 0 count."""

    def __init__(self, inner: Any, graph: Graph) -> None:
        super().__init__(inner)
        self._graph = graph
        self._negative: dict[str, str] = {}

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **fields: Any) -> None:
        if op_type == "Max":
            self._negative[outputs[0]] = inputs[0]
        if op_type != "Reciprocal":
            self.inner.add_node(op_type, inputs, outputs, **fields)
            return
        graph = self._graph
        distance = graph.add("Abs", self._negative[inputs[0]])
        zero = graph.constant(np.array(0, np.float32))
        hit = graph.add("Cast", graph.add("Equal", distance, zero), to=TensorProto.FLOAT)
        axis = graph.constant(np.array([1]))
        any_hit = graph.add("ReduceSum", hit, axis, keepdims=1)
        weight = graph.add("Reciprocal", distance)
        graph.add("Where", graph.add("Greater", any_hit, zero), hit, weight, output=outputs[0])
        put(graph, self.inner)
