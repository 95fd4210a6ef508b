"""``onnxpress profile``: where the time goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onnxpress import hotspots, options, terminal
from onnxpress.terminal import SCHEMA_VERSION


def profile(
    model: Annotated[Path, typer.Argument(help="An ONNX file or a bundle.")],
    samples: options.OptionalSamples = None,
    engine: options.EngineName = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of the engine.")] = None,
    provider: options.Provider = None,
    session: options.Session = None,
    settings: options.KeptSettings = None,
    batch: Annotated[int | None, typer.Option(help="Records in one run; 1 without.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of timing, and profiled runs.")] = 30,
    trace: Annotated[
        Path | None, typer.Option(help="Write one run there for Perfetto or chrome://tracing.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report there: one HTML file.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON there.")
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
    """Time every kernel beside what it multiplies: by node, operator and module of the source.

    Example: onnxpress profile model.onnx --engine openvino --batch 8 --report profile.html
    """
    from onnxpress import api
    from onnxpress.report.profile import render_profile
    from onnxpress.verbs.trace import trace as trace_of

    for path, flag in ((output, "--output"), (report, "--report"), (trace, "--trace")):
        if path is not None:
            terminal.check_output(path, flag)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        result = api.profile(
            model,
            samples=samples,
            engine=engine,
            threads=threads,
            provider=provider,
            session=session or (),
            settings=settings,
            batch=batch,
            rounds=rounds,
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            limit=limit,
            seed=seed,
            custom_ops=custom_ops,
            progress=progress,
        )
    data = result.to_dict()
    page = {"schema_version": SCHEMA_VERSION, "command": "profile", **data}
    html = None if report is None else render_profile(page)
    if output is not None:
        terminal.write_json(output, "profile", data)
    if trace is not None:
        terminal.write_text(trace, json.dumps(trace_of(result)))
    if report is not None and html is not None:
        terminal.write_text(report, html)
    if as_json:
        terminal.emit_json("profile", data)
        return 0
    if not quiet:
        hotspots.show_profiled(data, verbose=verbose)
    for line in result.warnings:
        terminal.warn(line)
    return 0
