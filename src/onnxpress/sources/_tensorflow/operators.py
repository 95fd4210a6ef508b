"""TensorFlow operators that tf2onnx 1.17 does not know, in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Handler = Callable[[Any, Any, str, Any], None]
"""tf2onnx's old form: its graph, the node, the node's name, arguments (none here)."""


def erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """``Erfc(x) = 1 - Erf(x)``: what Keras computes exact gelu with."""
    dtype = graph.get_dtype(node.output[0])
    shape = graph.get_shape(node.output[0])
    from tf2onnx.utils import map_onnx_to_numpy_type

    one = graph.make_const(f"{name}__one", np.array(1, map_onnx_to_numpy_type(dtype)))
    graph.remove_node(name)
    erf = graph.make_node("Erf", [node.input[0]], name=f"{name}__erf")
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output,
        shapes=[shape], dtypes=[dtype],
    )  # fmt: skip


def bucketize(graph: Any, node: Any, name: str, _: Any) -> None:
    """``Bucketize(x) = Σ_b [x ≥ b]`` over the boundaries: Keras' Discretization."""
    from onnx import TensorProto

    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    bounds = np.array(node.get_attr_value("boundaries"), np.float32)
    last = graph.make_const(f"{name}__axis", np.array([-1], np.int64)).output[0]
    limits = graph.make_const(f"{name}__bounds", bounds).output[0]
    source, output = node.input[0], node.output
    graph.remove_node(name)
    value = graph.make_node("Cast", [source], attr={"to": TensorProto.FLOAT}).output[0]
    column = graph.make_node("Unsqueeze", [value, last]).output[0]
    above = graph.make_node("GreaterOrEqual", [column, limits]).output[0]
    ones = graph.make_node("Cast", [above], attr={"to": dtype}).output[0]
    graph.make_node(
        "ReduceSum", [ones, last], attr={"keepdims": 0}, name=name, outputs=output,
        shapes=[shape], dtypes=[dtype],
    )  # fmt: skip


HANDLERS: Mapping[str, tuple[Handler, list[str]]] = {
    "Bucketize": (bucketize, []),
    "Erfc": (erfc, []),
}
