"""A float32 model in a 16-bit float: decided, then written."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from onnxpress.calibrator import Range
from onnxpress.passes._half_choice import Choice
from onnxpress.passes._half_reasons import INTEGER, Reasons
from onnxpress.passes._half_slots import BFLOAT16, FLOAT, FLOAT16, Half, Operators
from onnxpress.passes._half_values import Numbers
from onnxpress.passes._half_writer import Writer
from onnxpress.recipe import Change
from onnxpress.shapes import Shapes
from onnxpress.values import all_values, name_of, opset

NARROW = (FLOAT16.dtype, BFLOAT16.dtype)


def narrow(
    model: ir.Model,
    half: Half,
    ranges: Mapping[str, Range],
    exclude: Collection[str],
    keep_io: bool,
) -> Change:
    """Convert what ``model`` computes, but for the nodes that need float32.

    Ranges of activations that ``ranges`` does not have are taken to fit.
    """
    if opset(model) < half.opset:
        return Change(0, (f"{half} needs opset {half.opset}",))
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    shapes = Shapes(model)
    types = {shapes.dtype(value) for value in all_values(model.graphs())}
    halves = types.intersection(NARROW)
    if halves:
        found = " and ".join(sorted(dtype.name.lower() for dtype in halves if dtype))
        return Change(0, (f"it has {found} values already: convert the float32 model",))
    if FLOAT not in types:
        found = ", ".join(sorted(dtype.name.lower() for dtype in types if dtype))
        return Change(0, (f"it has no float32 values, but {found}",))
    operators = Operators(model, shapes, half)
    numbers = Numbers(nodes, shapes, ranges, half)
    why = Reasons(operators, numbers, shapes, half, exclude).why
    choice = Choice(nodes, operators, numbers, half, why)
    refusals = tuple(
        f"{name_of(node)}: {why}"
        for node, why in choice.wide.items()
        if why and not why.endswith(INTEGER)  # that is no float that was kept
    )
    if choice.slots:
        Writer(model, choice, numbers, half).write(keep_io)
    return Change(len(choice.slots), refusals)
