"""Free dimensions of a model set to numbers, for good."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpress.errors import InputError
from onnxpress.model import Model


def fix(model: Model, sizes: Mapping[str, int]) -> Model:
    """A copy in which each dimension named in ``sizes`` has that size, all through the graph.

    Shapes are inferred again, so that what depends on them is known too. Raises ``InputError``
    for a name that no input has, or a size below 1.
    """
    signature = model.signature
    free = {d for spec in signature.inputs for d in spec.shape or () if isinstance(d, str)}
    for name, size in sizes.items():
        if name not in free or size < 1:
            found = f"--fix {name}={size}"
            expected = (
                f"one of {', '.join(sorted(free))}" if free else "a model with free dimensions"
            )
            raise InputError(found, expected if name not in free else "a number of at least 1")
    clone = model.clone()
    for value in clone.ir.graph.inputs:
        value.shape = _fixed(value.shape, sizes)
    for graph in clone.ir.graphs():
        for node in graph:
            for value in node.outputs:
                value.shape = _fixed(value.shape, sizes)
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # sizes that do not fit are found by running the model
    try:
        passes.ShapeInferencePass(data_prop=True)(clone.ir)
    finally:
        logging.disable(level)
    return clone


def _fixed(shape: ir.Shape | None, sizes: Mapping[str, int]) -> ir.Shape | None:
    return None if shape is None else ir.Shape([_dim(dim, sizes) for dim in shape])


def _dim(dim: int | ir.SymbolicDim, sizes: Mapping[str, int]) -> int | ir.SymbolicDim | None:
    """A formula over a fixed name is forgotten; inference finds its number."""
    if isinstance(dim, int) or dim.value is None:
        return dim
    if dim.value in sizes:
        return sizes[dim.value]
    return None if sizes.keys() & set(re.findall(r"[A-Za-z_]\w*", dim.value)) else dim
