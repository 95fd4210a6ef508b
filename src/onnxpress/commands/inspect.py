"""``onnxpress inspect``: what is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import options, screens, terminal


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Show inputs, outputs, operators, size, multiply-accumulates and redundant nodes.

    Example: onnxpress inspect model.onnx
    """
    from onnxpress import api

    result = api.inspect(model, custom_ops=custom_ops).to_dict()
    if as_json:
        terminal.emit_json("inspect", result)
    elif not quiet:
        screens.show_inspected(str(model), result, verbose=verbose)
    return 0
