"""``onnxpress run``: predictions of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from onnxpress import options, terminal
from onnxpress.errors import InputError
from onnxpress.machine import check_threads

SHOWN = 5
"""How many values of a tensor are printed."""


def run(
    bundle: Annotated[Path, typer.Argument(help="A folder that press wrote.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Images, texts, tables, or .npz of tensors.")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", help="Samples to predict, as press takes them.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write JSON lines there.")
    ] = None,
    custom_ops: options.CustomOps = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Predict with a bundle.

    Example: onnxpress run bundle/ photo.jpg
    """
    from onnxpress import predictor
    from onnxpress.samples import Samples

    if bool(inputs) == bool(input_file):
        raise InputError("no input" if not inputs else "inputs and --input-file", "one of them")
    check_threads(threads)
    with predictor.open(bundle, threads, custom_ops) as opened:
        signature = opened.manifest.signature
        if input_file:
            records = Samples.open(input_file, signature=signature)
            names = (record.name for record in records)
            results = opened.stream(records)
        else:
            processing = opened.manifest.processing
            texts = processing is not None and processing.text is not None
            found_in = [predictor.records_of(text, texts=texts) for text in inputs or []]
            loaded = [record for records in found_in for record in records]
            names = (record.name for record in loaded)
            results = opened.stream(loaded)
        if output is not None:
            count = predictor.write_lines(output, names, results)
            if as_json:
                terminal.emit_json(
                    "run", {"outputs": count, "form": opened.form.name, "output": output}
                )
            elif not quiet:
                terminal.console().print(f"{count} predictions in {output} ({opened.form.name})")
            return 0
        found = list(zip(names, results, strict=True))
        if as_json:
            outputs = [result for _, result in found]
            terminal.emit_json("run", {"outputs": outputs, "form": opened.form.name})
            return 0
    if verbose:
        terminal.console(stderr=True).print(f"form {opened.form.name}", markup=False)
    for name, result in found:
        terminal.console().print(f"{name}: {_told(result)}", markup=False)
    return 0


def _told(result: object) -> str:
    """A class with its probability, spans, a number, or the first values of each tensor."""
    if isinstance(result, dict) and "class" in result:
        return str(result["class"]) + (f" ({result['score']:.1%})" if "score" in result else "")
    if isinstance(result, dict) and "entities" in result:
        told = [
            f"{span['text']} ({span['label']}, {span['score']:.1%})" for span in result["entities"]
        ]
        return ", ".join(told) or "nothing"
    if isinstance(result, dict) and isinstance(result.get("prediction"), float):
        return f"{result['prediction']:.6g}"
    if isinstance(result, dict):
        return "; ".join(f"{name} {_tensor(np.asarray(value))}" for name, value in result.items())
    return _tensor(result) if isinstance(result, np.ndarray) else str(result)


def _tensor(array: np.ndarray) -> str:
    first = " ".join(f"{value:.4g}" if array.dtype.kind == "f" else str(value)
                     for value in array.reshape(-1)[:SHOWN])  # fmt: skip
    return f"{array.dtype}{list(array.shape)} {first}{' …' if array.size > SHOWN else ''}"
