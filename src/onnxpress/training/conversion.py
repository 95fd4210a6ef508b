"""A reference as the float graph that is trained, and the same graph of other parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import onnx_ir as ir
import torch

from onnxpress.errors import SourceError
from onnxpress.model import Model
from onnxpress.signature import Feeds
from onnxpress.source import ExportOptions, OpenOptions, Origin, open_source
from onnxpress.training.borrowing import apart, as_it_was
from onnxpress.values import name_nodes
from onnxpress.verbs.convert import convert
from onnxpress.verbs.optimize import optimize


class Conversion:
    """Exports an origin as often as it is asked, with the parameters that it has by then."""

    def __init__(self, origin: Origin) -> None:
        self._origin, self._options = origin, ExportOptions()

    def first(self) -> Model:
        """Proven equal. Raises ``SourceError`` where it is not."""
        converted = convert(self._origin)
        if converted.verified is not None and not converted.verified.ok:
            raise SourceError(
                f"the converted model differs: {converted.verified.first_mismatch}",
                "a model that converts to the same answers",
                "onnxpress convert shows more",
            )
        if converted.exporter == "torchscript":  # what the first choice did not manage
            self._options = ExportOptions(exporter="torchscript")
        return _owning(converted.model)

    def again(self) -> Model:
        """By the exporter that made the first one."""
        return _owning(convert(self._origin, self._options, verify=False).model)


@contextmanager
def conversion(ref: object, example: object, options: OpenOptions | None) -> Iterator[Conversion]:
    """Of a module, which stays as it is, with ``example``, or of any other reference."""
    with ExitStack() as stack:
        if isinstance(ref, torch.nn.Module):
            stack.enter_context(as_it_was(ref))
            stack.enter_context(apart(ref))
            ref = (ref, example)
        yield Conversion(stack.enter_context(open_source(ref, options)))


def optimized(model: Model, feeds: Sequence[Feeds]) -> Model:
    """A clone in which each node is found again by its name."""
    made = optimize(model, lambda: feeds[:1]).model.clone()
    name_nodes(made.ir)
    return made


def _owning(model: Model) -> Model:
    """``model`` with copies of all constants: exporters lend those of the live module."""
    for graph in model.ir.graphs():
        for name, value in graph.initializers.items():
            if value.const_value is not None and value.dtype != ir.DataType.STRING:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=name)
    return model
