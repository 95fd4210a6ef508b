"""``onnxpress optimize``: a smaller graph with the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal


def optimize(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    output: options.Output = Path("optimized.onnx"),
    recipe: Annotated[
        str, typer.Option(help="Passes separated by commas; 'default' is the target's own.")
    ] = "default",
    target: Annotated[
        Literal["portable", "onnxruntime"],
        typer.Option(help="Standard operators only, or ONNX Runtime's own as well."),
    ] = "portable",
    fix: Annotated[
        list[str] | None, typer.Option("--fix", help="A free dimension's size: batch=1")
    ] = None,
    samples: options.OptionalSamples = None,
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    custom_ops: options.CustomOps = None,
    verify: Annotated[bool, typer.Option(help="Run both models and compare.")] = True,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Rewrite a graph and prove that its outputs stay; a pass that breaks them is undone.

    Example: onnxpress optimize model.onnx -o smaller.onnx
    """
    from onnxpress import api

    terminal.check_output(output)
    result = api.optimize(
        model,
        recipe=recipe,
        target=target,
        fix=options.parse_sizes(fix),
        samples=samples,
        task=task,
        preprocess=preprocess,
        tokenizer=tokenizer,
        limit=limit,
        seed=seed,
        custom_ops=custom_ops,
        verify=verify,
    )
    result.model.save(output)
    data = {"model": str(output), **result.to_dict()}
    if as_json:
        terminal.emit_json("optimize", data)
    elif not quiet:
        screens.show_optimized(data, verbose=verbose)
    return 0
