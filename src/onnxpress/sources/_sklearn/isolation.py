"""skl2onnx's writer of isolation forests, which send missing values where scikit-learn does.

scikit-learn takes missing values in one that was fitted without any: each goes to the child that
had more rows. skl2onnx 1.20 sends all of them to the right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx.operator_converters.isolation_forest import convert_sklearn_isolation_forest

from onnxpress.sources._sklearn.container import Wrapped


def convert_isolation(scope: Any, operator: Any, container: Any) -> None:
    """A converter of skl2onnx."""
    trees = [member.tree_ for member in operator.raw_operator.estimators_]
    convert_sklearn_isolation_forest(scope, operator, _MissingContainer(container, trees))


class _MissingContainer(Wrapped):
    """Each ensemble is one of ``trees``, with its nodes' numbers; in no order that is told."""

    def __init__(self, inner: Any, trees: list[Any]) -> None:
        super().__init__(inner)
        self._trees = trees

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **fields: Any) -> None:
        if op_type == "TreeEnsembleRegressor":
            nodes = np.array(fields["nodes_nodeids"])
            for tree in self._trees:
                if len(nodes) == tree.node_count and self._is(tree, nodes, fields):
                    fields["nodes_missing_value_tracks_true"] = [
                        int(way) for way in tree.missing_go_to_left[nodes]
                    ]
        self.inner.add_node(op_type, inputs, outputs, **fields)

    @staticmethod
    def _is(tree: Any, nodes: np.ndarray, fields: dict[str, Any]) -> bool:
        split = tree.children_left[nodes] >= 0
        features = np.array(fields["nodes_featureids"])
        values = np.array(fields["nodes_values"])
        return bool(
            (features[split] == tree.feature[nodes][split]).all()
            and np.allclose(values[split], tree.threshold[nodes][split], rtol=1e-5)
        )
