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


HANDLERS: Mapping[str, tuple[Handler, list[str]]] = {"Erfc": (erfc, [])}
