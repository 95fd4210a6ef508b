"""``onnxpress tune``: the settings that run a model fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal


def tune(
    model: Annotated[Path, typer.Argument(help="An ONNX file or a bundle.")],
    samples: options.SamplesRef,
    objective: Annotated[Literal["latency", "throughput"], typer.Option()] = "latency",
    budget: Annotated[float, typer.Option(help="Seconds to search.")] = 60.0,
    batch: Annotated[
        int | None, typer.Option(help="Records of a call; 1 for latency, 16 for throughput.")
    ] = None,
    floor: Annotated[
        float, typer.Option(help="Quality that settings of another precision must keep.")
    ] = 0.99,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the settings there, for --settings."),
    ] = None,
    engine: options.EngineName = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Use no more.")] = None,
    provider: options.Provider = None,
    session: options.Session = None,
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
    """Search engines, threads and session options for the fastest, and say what mattered.

    bench, run, press and quantize take what it writes with --settings.

    Example: onnxpress tune net.onnx --samples photos/ --preprocess size=224 -o settings.json
    """
    from onnxpress import api

    if output is not None:
        terminal.check_output(output)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        result = api.tune(
            model,
            samples=samples,
            objective=objective,
            budget=budget,
            batch=batch,
            floor=floor,
            engine=engine,
            threads=threads,
            provider=provider,
            session=session or (),
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            limit=limit,
            seed=seed,
            custom_ops=custom_ops,
            progress=progress,
        )
    data = {"model": str(model), **result.to_dict()}
    if output is not None:
        terminal.write_json(output, "tune", data)
        data["settings"] = str(output)
    if as_json:
        terminal.emit_json("tune", data)
    elif not quiet:
        screens.show_tuned(data, verbose=verbose)
    return 0
