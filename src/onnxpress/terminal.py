"""What people see: tables that fit 80 columns, progress bars, and JSON for programs."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from onnxpress.errors import InputError, writing
from onnxpress.progress import Progress as Report
from onnxpress.progress import silent

SCHEMA_VERSION = 1
PATIENCE_S = 2.0
"""Progress is shown from here on: shorter work needs none."""


def emit_json(command: str, result: Mapping[str, object]) -> None:
    """The one object that goes to stdout with ``--json``; infinities and NaN become null."""
    data = {"schema_version": SCHEMA_VERSION, "command": command, **result}
    sys.stdout.write(json.dumps(_plain(data), allow_nan=False) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def console(*, stderr: bool = False) -> Console:
    """For people: stdout, no wider than the terminal."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def plain_lines(lines: Iterable[str]) -> None:
    """Lines on stdout as they are, for a pager or a search."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def warn(text: str) -> None:
    """One line on stderr, however long."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    out.print(f"warning: {text}", style="yellow", markup=False)


@contextmanager
def progress(*, quiet: bool, verbose: bool = False) -> Iterator[Report]:
    """A bar on stderr, from two seconds on and on a terminal only; ``verbose``: a line a step."""
    # The stream of now: while exporters talk, sys.stderr is another one.
    stderr = Console(file=sys.stderr, highlight=False, soft_wrap=verbose)
    if verbose:
        yield _steps(stderr)
        return
    if quiet or not stderr.is_terminal:
        yield silent
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    # No streams of its own in place: exporters do so too, and one would undo the other.
    bar = Progress(
        *columns, console=stderr, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    task: TaskID | None = None
    last: tuple[str, int, int] | None = None

    def begin() -> None:
        nonlocal task
        bar.start()
        task = bar.add_task("")
        if last is not None:
            report(*last)

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        last = stage, done, total
        if task is not None:
            bar.update(task, description=stage[:44], completed=done, total=total or None)

    timer = threading.Timer(PATIENCE_S, begin)
    timer.daemon = True
    timer.start()
    try:
        yield report
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _steps(stderr: Console) -> Report:
    started, last = time.monotonic(), ""

    def report(stage: str, _done: int, _total: int) -> None:
        nonlocal last
        if stage != last:
            stderr.print(f"{time.monotonic() - started:7.1f} s  {stage}", style="dim", markup=False)
        last = stage

    return report


def rows_table(rows: Sequence[Mapping[str, object]], chosen: str | None = None) -> Table:
    """Measured rows as a table of at most 80 columns, in the order given."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("", width=1, no_wrap=True)
    table.add_column("form", overflow="fold")
    for name in ("ms", "±", "speed-up", "quality", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        marker = "►" if row["name"] == chosen else " " if row.get("ok", True) else "✗"
        style = "bold green" if row["name"] == chosen else "" if row.get("ok", True) else "dim"
        latency = row.get("latency_ms")
        cells = _cells(latency, row) if isinstance(latency, Mapping) else _untimed(row)
        table.add_row(marker, str(row["name"]), *cells, style=style)
    return table


def _cells(latency: Mapping[str, float], row: Mapping[str, object]) -> tuple[str, ...]:
    return (
        _three_digits(latency["typical"]),
        _three_digits(latency["std"], 2),
        _speedup(row),
        _quality(row.get("quality")),
        _megabytes(row.get("size_bytes")),
    )


def _untimed(row: Mapping[str, object]) -> tuple[str, ...]:
    return "–", "–", "–", _quality(row.get("quality")), _megabytes(row.get("size_bytes"))


def _three_digits(value: float, digits: int = 3) -> str:
    return f"{value:.0f}" if value >= 10**digits else f"{value:#.{digits}g}".rstrip(".")


def _speedup(row: Mapping[str, object]) -> str:
    speedup = row.get("speedup")
    if not isinstance(speedup, Mapping):
        return "–"
    if speedup["low"] == speedup["high"] == 1:
        return "1 (base)"
    return f"{'tie ' if row.get('tie') else ''}{speedup['value']:.2f}×"


def _quality(quality: object) -> str:
    if not isinstance(quality, Mapping):
        return "–"
    return f"{quality['value']:.4f} ≥{max(quality['low'], 0):.4f}"


def _megabytes(size: object) -> str:
    if not isinstance(size, int) or not size:
        return "–"
    return f"{size / 1e6:.2f}" if size >= 10_000 else "<0.01"


def in_bytes(size: int) -> str:
    """``size`` with a unit that fits it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size} B"


def counted(count: int, noun: str) -> str:
    """``count`` and the noun, with an s where there is not one of them."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def write_json(path: Path, command: str, result: Mapping[str, object]) -> None:
    """The same object as ``emit_json``, in a file, whole or not at all."""
    data = {"schema_version": SCHEMA_VERSION, "command": command, **result}
    write_text(path, json.dumps(_plain(data), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """``text`` in a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def check_output(path: Path, flag: str = "--output") -> None:
    """Raise ``InputError`` before any work where ``path`` cannot be written."""
    if path.is_dir():
        raise InputError(f"{flag} {path} is a folder", "a file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the folder of {flag} {path} does not exist", "an existing folder")
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"{flag} {path} cannot be written", "a folder that can be written to")
