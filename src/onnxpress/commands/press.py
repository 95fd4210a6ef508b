"""``onnxpress press``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxpress import options, screens, terminal


def press(
    source: Annotated[str, typer.Argument(help="torch:FILE.py:factory, model.onnx, …")],
    samples: options.SamplesRef,
    output: options.Output = Path("bundle"),
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    floor: Annotated[
        float | None, typer.Option(help="Quality to keep, 0 to 1; 0.99 or what can be proven.")
    ] = None,
    objective: Annotated[Literal["latency", "throughput"], typer.Option()] = "latency",
    batch: Annotated[int | None, typer.Option(help="Rows per call when timing.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Try this engine only; all that are installed.")
    ] = None,
    threads: options.Threads = None,
    provider: options.Provider = None,
    session: options.Session = None,
    settings: options.KeptSettings = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds of timing.")] = 20,
    label: options.Label = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    inputs: options.Inputs = None,
    checkpoint: options.Checkpoint = None,
    trust: options.Trust = False,
    custom_ops: options.CustomOps = None,
    exporter: Annotated[Literal["auto", "dynamo", "torchscript"], typer.Option()] = "auto",
    keep_float: Annotated[
        bool, typer.Option("--keep-float", help="Write a bundle even if nothing is faster.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; use nothing that an earlier press made.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be tried; write nothing.")
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Tune threads and session options of the best forms.")
    ] = False,
    budget: Annotated[float, typer.Option(help="Seconds to tune, with --tune.")] = 60.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Find the fastest faithful form of a model for this machine, and bundle it with the proof.

    What was made is kept in .NAME.press beside the bundle NAME, so that pressing again is quick;
    the folder may be deleted.

    Example: onnxpress press torch:net.py:make --samples photos/ --preprocess
    size=224,mean=0.5,std=0.5 -o bundle/
    """
    from onnxpress import api
    from onnxpress.pressing.result import Pressed

    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        result = api.press(
            source,
            samples=samples,
            output=output,
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            floor=floor,
            objective=objective,
            batch=batch,
            engine=engine,
            threads=threads,
            provider=provider,
            session=session or (),
            settings=settings,
            rounds=rounds,
            label=label,
            limit=limit,
            seed=seed,
            inputs=options.parse_inputs(inputs),
            checkpoint=checkpoint,
            trust=trust,
            custom_ops=custom_ops,
            exporter=exporter,
            keep_float=keep_float,
            fresh=fresh,
            dry_run=dry_run,
            tune=tune,
            budget=budget,
            progress=progress,
        )
    if as_json:
        terminal.emit_json("press", result.to_dict())
    elif not quiet:
        screens.show_pressed(result.to_dict())
    return 3 if isinstance(result, Pressed) and result.chosen is None else 0
