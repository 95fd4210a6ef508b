"""``onnxpress bench``: models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import options, screens, terminal
from onnxpress.errors import InputError
from onnxpress.terminal import SCHEMA_VERSION


def bench(
    things: Annotated[list[str], typer.Argument(help="ONNX files, bundles or references.")],
    samples: options.SamplesRef,
    against: Annotated[
        str | None, typer.Option(help="The baseline; the first thing without it.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes, such as 1,8,32; 1 without it.")
    ] = None,
    length: Annotated[
        str | None, typer.Option(help="Lengths of texts in tokens, such as 16,64,256.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also the baseline as torch.compile makes it.")
    ] = False,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Time from records to predictions on all sides.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds of timing.")] = 50,
    seconds: Annotated[
        float | None, typer.Option(help="At most so long for each size; five rounds at least.")
    ] = None,
    fail_if_slower: Annotated[
        str | None, typer.Option(help="Exit 3 if a thing is slower than the baseline by more.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Exit 3 if a thing's quality is below this: untimed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON there.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report there: .html or .md.")] = None,
    engine: options.EngineName = None,
    threads: options.Threads = None,
    provider: options.Provider = None,
    session: options.Session = None,
    settings: options.KeptSettings = None,
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    label: options.Label = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    inputs: options.Inputs = None,
    checkpoint: options.Checkpoint = None,
    trust: options.Trust = False,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Score and time models side by side: interleaved rounds, one process each.

    Example: onnxpress bench net.onnx int8.onnx --against torch:net.py:make --samples random:32
    """
    from onnxpress import api
    from onnxpress.report import check_suffix, render
    from onnxpress.verbs import benched

    share = options.parse_percent(fail_if_slower, "--fail-if-slower")
    if share is not None and len(things) + (against is not None) + compiled < 2:
        raise InputError("--fail-if-slower with one model", "a baseline: give it with --against")
    batches = _sizes(batch, "--batch", "batch sizes such as 1,8,32")
    lengths = _sizes(length, "--length", "numbers of tokens such as 16,64,256")
    for path, flag in ((output, "--output"), (report, "--report")):
        if path is not None:
            terminal.check_output(path, flag)
    if report is not None:
        check_suffix(report)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        results = api.measure(
            things,
            samples=samples,
            against=against,
            batches=batches,
            lengths=lengths,
            compiled=compiled,
            end_to_end=end_to_end,
            rounds=rounds,
            seconds=seconds,
            min_quality=min_quality,
            engine=engine,
            threads=threads,
            provider=provider,
            session=session or (),
            settings=settings,
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            label=label,
            limit=limit,
            seed=seed,
            inputs=options.parse_inputs(inputs),
            checkpoint=checkpoint,
            trust=trust,
            custom_ops=custom_ops,
            progress=progress,
        )
    missed = benched.missed_gates(results, share, min_quality)
    warnings = benched.cautions(results, random=samples.startswith("random:"))
    data = benched.summary(results, missed, warnings, end_to_end=end_to_end)
    if output is not None:
        terminal.write_json(output, "bench", data)
    if report is not None:
        page = {"schema_version": SCHEMA_VERSION, "command": "bench", **data}
        terminal.write_text(report, render(page, report))
    if as_json:
        terminal.emit_json("bench", data)
    elif not quiet:
        screens.show_bench(data)
    for line in () if as_json else (*warnings, *missed):
        terminal.warn(line)
    return 3 if missed else 0


def _sizes(text: str | None, flag: str, expected: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{flag} {text}", expected)
    return [int(part) for part in parts]
