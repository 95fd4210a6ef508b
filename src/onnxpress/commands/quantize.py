"""``onnxpress quantize``: one scheme, with what it gained and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpress import options, screens, terminal


def quantize(
    model: Annotated[Path, typer.Argument(help="A float32 ONNX file.")],
    samples: options.SamplesRef,
    scheme: Annotated[
        str,
        typer.Option(
            help="static, dynamic, weight-only, float16 or bfloat16; joined by +, each is for what "
            "those before it left."
        ),
    ],
    output: options.Output = Path("quantized.onnx"),
    calibrator: Annotated[
        str | None,
        typer.Option(
            help="How ranges are found: minmax, moving-average, percentile, entropy or mse, with "
            "fields as in 'percentile(percentile=99.9)'. The best of some, if left out."
        ),
    ] = None,
    ranges: Annotated[
        Path | None,
        typer.Option(help="Read the ranges from this file; write them to it if there is none."),
    ] = None,
    activations: Annotated[
        str, typer.Option(help="uint8, int8, uint16 or int16, for scheme static.")
    ] = "uint8",
    bits: Annotated[
        int | None,
        typer.Option(
            help="Bits of the weights, 2 to 8; 8 if left out, with wider scales where the CPU "
            "saturates."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep these nodes in float: a name, an operator type or a module of the source, "
            "with wildcards. May be given several times."
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Quality to keep, 0 to 1: as few layers as it takes stay float."),
    ] = None,
    rank: Annotated[
        bool, typer.Option("--rank", help="Rank the layers by the damage that each does.")
    ] = False,
    engine: options.EngineName = None,
    task: options.TaskName = None,
    preprocess: options.Preprocess = None,
    tokenizer: options.Tokenizer = None,
    label: options.Label = None,
    limit: options.Limit = None,
    threads: options.Threads = None,
    provider: options.Provider = None,
    session: options.Session = None,
    settings: options.KeptSettings = None,
    seed: options.Seed = 0,
    custom_ops: options.CustomOps = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Quantise a model, then measure size, speed and quality of the saved file.

    The file is written also where its quality is below --floor (or, without one, below 0.99);
    the exit code is 3 then.

    Example: onnxpress quantize net.onnx --scheme static --samples photos/ --preprocess size=224
    """
    from onnxpress import api

    terminal.check_output(output)
    with terminal.progress(quiet=quiet, verbose=verbose) as progress:
        result = api.quantize(
            model,
            scheme=scheme,
            samples=samples,
            calibrator=calibrator,
            activations=activations,
            bits=bits,
            exclude=exclude or (),
            ranges=ranges,
            rank=rank,
            engine=engine,
            floor=floor,
            task=task,
            preprocess=preprocess,
            tokenizer=tokenizer,
            label=label,
            limit=limit,
            threads=threads,
            provider=provider,
            session=session or (),
            settings=settings,
            seed=seed,
            custom_ops=custom_ops,
            progress=progress,
        )
    result.model.save(output)
    data = {"model": str(output), **result.to_dict()}
    if as_json:
        terminal.emit_json("quantize", data)
    elif not quiet:
        screens.show_quantized(data)
    return 3 if result.holds is False or result.ruined else 0
