"""Models that PyTorch saved whole: exported programs (.pt2), TorchScript, pickled modules."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from onnxpress.errors import InputError, OnnxpressError, SourceError
from onnxpress.sources._torch.example import Example

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""The environment variable that keeps torch.load, whoever calls it, from running code."""

PROGRAM, SCRIPT, PICKLE = "an exported program", "TorchScript", "pickled Python"


@dataclass(frozen=True)
class Saved:
    """A module out of a file, the example that the file holds, and the file's SHA-256."""

    module: torch.nn.Module
    example: Example | None
    digest: str


def open_saved(path: Path, *, trust: bool) -> Saved:
    """``.pt2``, TorchScript or, trusted, a pickled module.

    Only the last one runs Python code of the file when it is loaded. Raises ``InputError`` where
    the file is none of them or is not trusted, ``SourceError`` where PyTorch cannot read it.
    """
    kind = _kind(path)
    if kind == PICKLE and not trust:
        raise InputError(
            f"{path} holds pickled Python, which can run any code when it is loaded",
            "a .pt2, TorchScript, or weights with their factory",
            f"give torch:FILE.py:FACTORY --checkpoint {path}, or --trust if you trust who made it",
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        with _safely(trust=trust):
            if kind == PROGRAM:
                program = torch.export.load(path)
                return Saved(program.module(), _example(program), digest)
            return Saved(_module(path, kind), None, digest)
    except OnnxpressError:
        raise
    except Exception as error:  # PyTorch's readers raise anything on damaged files
        told = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(f"{path} cannot be read as {kind} ({told})", "a whole file") from error


@contextlib.contextmanager
def _safely(*, trust: bool) -> Iterator[None]:
    """No pickle inside an exported program runs code unless trusted; no tracebacks on stderr."""
    before, level = os.environ.get(WEIGHTS_ONLY), logging.root.manager.disable
    if not trust:
        os.environ[WEIGHTS_ONLY] = "1"
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, its files are not gone
            yield
    finally:
        logging.disable(level)
        if not trust:
            os.environ.pop(WEIGHTS_ONLY)
            os.environ.update({} if before is None else {WEIGHTS_ONLY: before})


def _kind(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} does not exist", "a .pt2, TorchScript or .pt file")
    if path.suffix == ".pt2":
        return PROGRAM
    if not zipfile.is_zipfile(path):
        return PICKLE  # as PyTorch wrote files before 1.6
    with zipfile.ZipFile(path) as archive:
        inside = {name.partition("/")[2] for name in archive.namelist()}
    return SCRIPT if "constants.pkl" in inside else PICKLE


def _module(path: Path, kind: str) -> torch.nn.Module:
    made: object
    if kind == SCRIPT:
        made = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    else:
        made = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(made, torch.nn.Module):
        return made
    what = "weights alone" if isinstance(made, Mapping) else type(made).__name__
    raise InputError(
        f"{path} holds {what}", "a module", f"give torch:FILE.py:FACTORY --checkpoint {path}"
    )


def _example(program: torch.export.ExportedProgram) -> Example | None:
    """The program's own example inputs, with the axes that it was exported with as free ones."""
    if program.example_inputs is None:
        return None
    args, kwargs = program.example_inputs
    names = [*program.graph_signature.user_inputs]
    values = [*args, *kwargs.values()]
    tensors = {str(n): v for n, v in zip(names, values, strict=False)}
    if len(names) != len(values) or (args and kwargs):
        raise SourceError("the program takes nested inputs", "one tensor for each input")
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise SourceError("the program takes inputs that are no tensors", "tensors")
    return Example(tensors, keywords=bool(kwargs), free=_free(program))


def _free(program: torch.export.ExportedProgram) -> dict[str, dict[int, str]]:
    """Input → axis → name; the first axis of the first input that has it free is the batch."""
    found: dict[str, dict[int, str]] = {}
    known: dict[str, str] = {}
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in inputs:
            continue
        shape = getattr(node.meta.get("val"), "shape", ())
        symbols = {axis: str(dim) for axis, dim in enumerate(shape) if not isinstance(dim, int)}
        for axis, symbol in symbols.items():
            name = "batch" if axis == 0 and "batch" not in known.values() else f"dim_{len(known)}"
            known.setdefault(symbol, name)
        found[node.name] = {axis: known[symbol] for axis, symbol in symbols.items()}
    return found
