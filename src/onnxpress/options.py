"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from onnxpress import terminal
from onnxpress.errors import InputError
from onnxpress.signature import TensorSpec, parse_dims

Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write the result.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no tables.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Say more: each step, every detail.")
]
SamplesRef = Annotated[
    str,
    typer.Option(
        "--samples",
        help="Folder of images (sub-folders are classes, or images/ and masks/), "
        ".txt/.jsonl of texts, .csv/.parquet table, .npz of arrays, FILE.py:function, or random:N.",
    ),
]
OptionalSamples = Annotated[
    str | None, typer.Option("--samples", help="As for press; random feeds without it.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="Use at most N samples.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of splits and random values.")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="What the model does; read off it without this.")
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="How images become tensors: size=224,crop=224,mean=0.485/0.456/0.406,"
        "std=0.229/0.224/0.225,layout=nchw",
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", help="How texts become tensors: a folder with tokenizer.json and its config."
    ),
]
Label = Annotated[str | None, typer.Option("--label", help="The column that holds the label.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", help="What the model takes: NAME:DTYPE\\[dims], such as x:float32\\[batch,4]"
    ),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights (.pt, .pth, .safetensors).")
]


def _told_of_trust(given: bool) -> bool:
    if given:
        terminal.warn(
            "--trust: what is in the model's files runs as a program with all your rights; only "
            "for files that you or people you trust made"
        )
    return given


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow formats that run code when they are loaded.",
        callback=_told_of_trust,
    ),
]
CustomOps = Annotated[
    Path | None,
    typer.Option("--custom-ops", help="Shared library with operators that the model needs."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Threads for every candidate and the original.")
]
EngineName = Annotated[str | None, typer.Option("--engine", help="onnxruntime or openvino.")]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="What of the engine runs it: NAME or NAME:key=value,… of ONNX Runtime's providers, "
        "such as cuda:gpu_mem_limit=2GB (docs/providers.md), or a device of OpenVINO.",
    ),
]
Session = Annotated[
    list[str] | None,
    typer.Option(
        "--session",
        help="An option of the engine's sessions, KEY=VALUE, such as execution_mode=parallel. "
        "May be given several times.",
    ),
]
KeptSettings = Annotated[
    Path | None, typer.Option("--settings", help="Run with the settings that tune wrote there.")
]


def parse_inputs(texts: list[str] | None) -> tuple[TensorSpec, ...]:
    """``NAME:DTYPE[dims]`` each. Raises ``InputError``."""
    return tuple(map(TensorSpec.parse, texts or []))


def parse_shapes(texts: list[str] | None) -> dict[str, tuple[int | str, ...]]:
    """``NAME=dims`` each, such as ``x=batch,3,224,224``. Raises ``InputError``."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for text in texts or []:
        name, equals, dims = text.partition("=")
        if not (equals and name and dims):
            raise InputError(f"--shape {text}", "NAME=dims, such as x=batch,3,224,224")
        if name.strip() in shapes:
            raise InputError(f"--shape {name.strip()} is given twice", "once for each input")
        shapes[name.strip()] = parse_dims(dims)
    return shapes


def parse_sizes(texts: list[str] | None) -> dict[str, int]:
    """``NAME=SIZE`` each, such as ``batch=1``, also several by commas. Raises ``InputError``."""
    sizes = {}
    for text in (part for given in texts or [] for part in given.split(",")):
        name, _, size = text.partition("=")
        if not (name.strip() and size.strip().isdecimal()):
            raise InputError(f"--fix {text}", "NAME=SIZE, such as batch=1")
        sizes[name.strip()] = int(size)
    return sizes


def parse_percent(text: str | None, flag: str) -> float | None:
    """``5%`` or ``0.05`` as a share. Raises ``InputError``."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf or (share >= 1 and not text.endswith("%")):
        raise InputError(f"{flag} {text}", "a share such as 5% or 0.05")
    return share
