"""``onnxpress convert``: any trained model as ONNX, proven equal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal


def convert(
    source: Annotated[str, typer.Argument(help="torch:FILE.py:factory, …")],
    output: options.Output = Path("model.onnx"),
    opset: Annotated[
        int | None,
        typer.Option(help="ONNX opset; without, the newest that ONNX Runtime 1.20 runs."),
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Free dimensions: x=batch,3,height,width")
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="Fix every dimension.")] = False,
    exporter: Annotated[Literal["auto", "dynamo", "torchscript"], typer.Option()] = "auto",
    verify: Annotated[bool, typer.Option(help="Compare with the original.")] = True,
    inputs: options.Inputs = None,
    preprocess: options.Preprocess = None,
    checkpoint: options.Checkpoint = None,
    trust: options.Trust = False,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Convert a trained model to ONNX and compare it with the original on several batch sizes.

    Example: onnxpress convert torch:net.py:make --input x:float32[batch,3,224,224] -o net.onnx
    """
    from onnxpress import api

    terminal.check_output(output)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        progress("converting", 0, 0)
        result = api.convert(
            source,
            opset=opset,
            shapes=options.parse_shapes(shape),
            static=static,
            exporter=exporter,
            verify=verify,
            inputs=options.parse_inputs(inputs),
            preprocess=preprocess,
            checkpoint=checkpoint,
            trust=trust,
            custom_ops=custom_ops,
        )
    data = result.to_dict()
    differs = result.verified is not None and not result.verified.ok
    if differs:
        told = f" ({result.fallback_reason})" if result.fallback_reason else ""
        terminal.warn(
            f"the models differ, nothing is written: {result.verified.first_mismatch}{told}"  # type: ignore[union-attr]  # differs says that it is there
        )
    else:
        result.model.save(output)
    data = {"model": None if differs else str(output), **data}
    if as_json:
        terminal.emit_json("convert", data)
    elif not quiet and not differs:
        screens.show_converted(data)
    return 3 if differs else 0
