"""``onnxpress opset``: what opsets need, and a model in another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onnxpress import options, screens, terminal
from onnxpress.errors import InputError


def opset(
    model: Annotated[Path | None, typer.Argument(help="An ONNX file; the table without.")] = None,
    to: Annotated[int | None, typer.Option(help="The opset to convert to, up or down.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the converted model.")
    ] = None,
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
    """Say what each opset, or a model's, needs; convert a model to another one and prove it equal.

    Example: onnxpress opset model.onnx --to 21 -o newer.onnx
    """
    from onnxpress import api, opsets
    from onnxpress.model import load
    from onnxpress.values import opset as opset_of

    if model is None and (to is not None or output is not None):
        raise InputError("--to without a model", "an ONNX file to convert")
    if (to is None) != (output is None):
        raise InputError("--to and --output", "both of them, or neither")
    if to is None and (samples or tokenizer):
        raise InputError("--samples or --tokenizer without --to", "a model to convert and compare")
    if output is not None:
        terminal.check_output(output)
    if model is None:
        table = {str(number): needs.to_dict() for number, needs in opsets.NEEDS.items()}
        data: dict[str, Any] = {"table": table}
    elif to is None:
        number = opset_of(load(model).ir)
        data = {"opset": number, "needs": opsets.needs(number).to_dict()}
    else:
        result = api.change_opset(
            model,
            to,
            samples=samples,
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            limit=limit,
            seed=seed,
            custom_ops=custom_ops,
        )
        data = result.to_dict()
        differs = result.verified is not None and not result.verified.ok
        if not differs and output is not None:
            result.model.save(output)
        data["model"] = None if differs else str(output)
    if as_json:
        terminal.emit_json("opset", data)
    elif not quiet:
        screens.show_opset(data, verbose=verbose)
    return 3 if data.get("verified") and not data["verified"]["ok"] else 0
