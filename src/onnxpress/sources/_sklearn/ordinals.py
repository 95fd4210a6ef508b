"""skl2onnx's writer of ordinal encoders, with the code of missing numbers.

ONNX Runtime finds no NaN among a LabelEncoder's keys, and whole numbers have no NaN to be a code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx.operator_converters.ordinal_encoder import convert_sklearn_ordinal_encoder

from onnxpress.sources._sklearn.container import Wrapped, put
from onnxpress.trees.graph import Graph


def convert_ordinals(scope: Any, operator: Any, container: Any) -> None:
    """A converter of skl2onnx."""
    code = operator.raw_operator.encoded_missing_value
    convert_sklearn_ordinal_encoder(scope, operator, _NumberContainer(container, code))


class _NumberContainer(Wrapped):
    """``code`` where a number is missing, and codes as float32 to make that possible."""

    def __init__(self, inner: Any, code: float) -> None:
        super().__init__(inner)
        self._code = code

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **fields: Any) -> None:
        if op_type == "LabelEncoder" and "values_int64s" in fields:
            fields["values_floats"] = np.asarray(fields.pop("values_int64s"), np.float32)
            if "default_int64" in fields:
                fields["default_float"] = float(fields.pop("default_int64"))
        keys = np.asarray(fields.get("keys_floats", ()))
        if op_type != "LabelEncoder" or not np.isnan(keys).any():
            self.inner.add_node(op_type, inputs, outputs, **fields)
            return
        known = ~np.isnan(keys)
        fields |= {
            name: np.asarray(fields[name])[known] for name in ("keys_floats", "values_floats")
        }
        graph, numbers = Graph(f"{outputs}_"), f"{outputs}_known"
        self.inner.add_node(op_type, inputs, numbers, **fields)
        code = graph.constant(np.array(self._code, np.float32))
        graph.add("Where", graph.add("IsNaN", inputs), code, numbers, output=outputs)
        put(graph, self.inner)
