"""``onnxpress export``: an ONNX model in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import options, screens, terminal


def export(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    to: Annotated[str, typer.Option(help="openvino, ort, tensorflow or tflite.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A file of that format, or a folder for it.")
    ],
    samples: options.OptionalSamples = None,
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
    """Write a model for OpenVINO, ONNX Runtime's ORT, TensorFlow or TFLite, proven equal.

    Example: onnxpress export model.onnx --to openvino -o model.xml
    """
    from onnxpress import api

    result = api.export(
        model,
        to,
        output,
        samples=samples,
        task=task,
        preprocess=preprocess,
        tokenizer=tokenizer,
        limit=limit,
        seed=seed,
        custom_ops=custom_ops,
    )
    if not result.verified.ok:
        terminal.warn(f"the models differ, nothing is written: {result.verified.first_mismatch}")
    if as_json:
        terminal.emit_json("export", result.to_dict())
    elif not quiet:
        screens.show_exported(result.to_dict(), verbose=verbose)
    return 0 if result.verified.ok else 3
