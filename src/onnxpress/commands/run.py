"""``onnxpress run``: predictions of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from onnxpress import options, terminal
from onnxpress.errors import InputError

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
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Write there: JSON lines, or masks and images (a .png, or a folder of them).",
        ),
    ] = None,
    custom_ops: options.CustomOps = None,
    threads: options.Threads = None,
    engine: options.EngineName = None,
    provider: options.Provider = None,
    session: options.Session = None,
    settings: options.KeptSettings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Predict with a bundle.

    Example: onnxpress run bundle/ photo.jpg
    """
    from onnxpress import predictor
    from onnxpress.readers import IMAGE_SUFFIXES
    from onnxpress.samples import Samples
    from onnxpress.wishes import wishes_of

    if bool(inputs) == bool(input_file):
        given = "inputs and --input-file" if inputs else "no input"
        raise InputError(given, "files or texts to predict on, or --input-file")
    wishes = wishes_of(engine, threads, provider, session or (), settings)
    with predictor.opened(bundle, wishes, custom_ops) as opened:
        _warn(opened.fallbacks)
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
            saved = output.suffix.lower() in IMAGE_SUFFIXES or output.is_dir() or not output.suffix
            if opened.pictures and saved:
                count = predictor.write_pictures(output, names, results)
            elif output.suffix.lower() in IMAGE_SUFFIXES:
                task = opened.manifest.task
                raise InputError(f"--output {output}", f"a .jsonl: task {task} makes no images")
            else:
                count = predictor.write_lines(output, names, map(opened.told, results))
            if as_json:
                terminal.emit_json(
                    "run", {"outputs": count, "form": opened.form.name, "output": output}
                )
            elif not quiet:
                terminal.console().print(f"{count} predictions in {output} ({opened.form.name})")
            return 0
        found = list(zip(names, map(opened.told, results), strict=True))
        if as_json:
            outputs = [result for _, result in found]
            terminal.emit_json("run", {"outputs": outputs, "form": opened.form.name})
            return 0
    if verbose:
        terminal.console(stderr=True).print(f"form {opened.form.name}", markup=False)
    for name, result in found:
        terminal.console().print(f"{name}: {_told(result)}", markup=False)
    return 0


def _warn(fallbacks: Sequence[str]) -> None:
    if fallbacks:
        from onnxpress.verbs.measured import told_fallbacks

        terminal.warn(told_fallbacks(fallbacks))


def _told(result: object) -> str:
    """A class with its probability, spans, boxes, shares of classes, or the first values.

    ``--json`` has them all.
    """
    match result:
        case {"class": name, "score": score}:
            told = f"{name} ({score:.1%})"
        case {"class": name}:
            told = str(name)
        case {"entities": spans}:
            texts = [f"{span['text']} ({span['label']}, {span['score']:.1%})" for span in spans]
            told = ", ".join(texts) or "nothing"
        case {"size": [height, width], "shares": shares}:
            told = f"{width}×{height} pixels{_shares(shares)}"
        case {"size": [height, width]}:
            told = f"{width}×{height} pixels"
        case {"detections": detections}:
            told = _boxes(detections)
        case {"prediction": float(number)}:
            told = f"{number:.6g}"
        case dict():
            values = (f"{name} {_tensor(np.asarray(value))}" for name, value in result.items())
            told = "; ".join(values)
        case np.ndarray():
            told = _tensor(result)
        case _:
            told = str(result)
    return told


def _shares(shares: dict[str, float]) -> str:
    """The classes of a mask, the largest first."""
    told = [f"{name} {share:.1%}" for name, share in list(shares.items())[:SHOWN]]
    told += [f"{len(shares) - SHOWN} more"] if len(shares) > SHOWN else []
    return f": {', '.join(told)}" if told else ""


def _boxes(detections: list[dict[str, Any]]) -> str:
    """How many objects, then a line for each."""
    count = len(detections)
    lines = [f"{count or 'no'} object{'s' if count != 1 else ''}"]
    width = max((len(str(found["class"])) for found in detections), default=0)
    for found in detections:
        left, top, wide, high = (round(side) for side in found["box"])
        name = str(found["class"]).ljust(width)
        lines.append(f"  {name} {found['score']:6.1%}  at {left},{top}  {wide}×{high}")
    return "\n".join(lines)


def _tensor(array: np.ndarray) -> str:
    first = " ".join(f"{value:.4g}" if array.dtype.kind == "f" else str(value)
                     for value in array.reshape(-1)[:SHOWN])  # fmt: skip
    return f"{array.dtype}{list(array.shape)} {first}{' …' if array.size > SHOWN else ''}"
