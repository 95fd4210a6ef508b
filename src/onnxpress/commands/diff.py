"""``onnxpress diff``: what is different between two models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import differences, options, terminal


def diff(
    a: Annotated[Path, typer.Argument(help="An ONNX file: before.")],
    b: Annotated[Path, typer.Argument(help="An ONNX file: after.")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Show which nodes merged into which, and what was added, removed and changed.

    Example: onnxpress diff model.onnx optimized.onnx
    """
    from onnxpress import api

    data = {"a": str(a), "b": str(b), **api.diff(a, b).to_dict()}
    if as_json:
        terminal.emit_json("diff", data)
    elif not quiet:
        differences.show_difference(data, verbose=verbose)
    return 0
