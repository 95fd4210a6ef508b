"""``onnxpress check``: what is wrong with a model, or will be where it shall run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import diagnoses, options, terminal


def check(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    runtime: Annotated[
        str | None, typer.Option(help="The target's: onnxruntime==1.16; the one here without.")
    ] = None,
    isa: Annotated[
        str | None, typer.Option(help="The target CPU's instruction sets: AVX2,FMA; this CPU's.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Where it shall run: CUDAExecutionProvider, NAME:key=value.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", help="As for press: activations are watched on it.")
    ] = None,
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Find what fails, saturates or falls back where a model shall run; each with a fix.

    Example: onnxpress check model.onnx --runtime onnxruntime==1.16
    """
    from onnxpress import api

    result = api.check(
        model,
        runtime=runtime,
        isa=isa or (),
        provider=provider,
        samples=samples,
        task=task,
        preprocess=preprocess,
        tokenizer=tokenizer,
        limit=limit,
        seed=seed,
        custom_ops=custom_ops,
    )
    data = {"model": str(model), **result.to_dict()}
    if as_json:
        terminal.emit_json("check", data)
    elif not quiet:
        diagnoses.show_checked(data, verbose=verbose)
    return 0 if result.ok else 3
