"""``onnxpress inspect``: what is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import anatomy, options, terminal


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    ops: Annotated[
        bool, typer.Option("--ops", help="What each operator and the dearest nodes cost.")
    ] = False,
    text: Annotated[
        bool, typer.Option("--text", help="The graph to read: a line for each node.")
    ] = False,
    scales: Annotated[
        bool, typer.Option("--scales", help="How each quantised tensor is scaled.")
    ] = False,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", help="Sizes to count with: x=8,3,224,224, or batch=8; else 1"),
    ] = None,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Show what is in a model: what it costs, which nodes are redundant, which fusions it misses.

    Example: onnxpress inspect model.onnx --ops --shape batch=8
    """
    from onnxpress import api

    if text and not (as_json or ops or scales):
        if not quiet:
            anatomy.show_text(api.listing(model))
        return 0
    result = api.inspect(model, shapes=options.parse_shapes(shape), custom_ops=custom_ops).to_dict()
    if as_json:
        listed = {"text": list(api.listing(model))} if text else {}
        terminal.emit_json("inspect", {**result, **listed})
    elif not quiet:
        if not (ops or scales):
            anatomy.show_inspected(str(model), result, verbose=verbose)
        if ops:
            anatomy.show_operators(result, verbose=verbose)
        if scales:
            anatomy.show_scales(result)
        if text:
            anatomy.show_text(api.listing(model))
    return 0
