"""How ``profile`` looks to a person: the slowest kernels, the operators, the modules."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

NODES, SUMS = 15, 8
"""Rows that are told; ``--verbose`` tells all of them."""
NUMBERS = 43
"""The width of a table's numbers with their padding."""
NOWHERE = "–"


def show_profiled(result: Result, *, verbose: bool = False) -> None:
    """The kernels that take longest, then operators and modules, then what it comes to."""
    out = console()
    inputs = ", ".join(
        f"{name} {'×'.join(map(str, shape))}" for name, shape in result["shapes"].items()
    )
    threads = counted(result["threads"], "thread")
    out.print(Text(f"{result['model']}, {threads}: {inputs}", style="bold"))
    nodes = result["nodes"]
    _show(out, "kernel", nodes, None if verbose else NODES)
    _show(out, "operator", result["by_op"], None if verbose else SUMS)
    if any(row["name"] for row in result["by_module"]):
        _show(out, "module", result["by_module"], None if verbose else SUMS)
    out.print(Text(_total(result), style="dim"))
    for sentence in result["verdict"]:
        out.print(Text(sentence, style="bold"))


def _show(out: Console, kind: str, rows: Sequence[Result], limit: int | None) -> None:
    """One table; ``kind`` says what its rows are."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column(kind, overflow="fold")
    table.add_column(
        "op" if kind == "kernel" else "count",
        justify="left" if kind == "kernel" else "right",
        no_wrap=True,
    )
    for name in ("ms", "share", "GFLOP/s", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    seconds = [_op(row["op"]) if kind == "kernel" else str(row["count"]) for row in rows]
    shown = rows if limit is None else rows[:limit]
    wide = max([len(text) for text in seconds[: len(shown)]] + [5])
    room = max(out.width - NUMBERS - wide + 7, 16)
    for row, second in zip(shown, seconds, strict=False):
        table.add_row(_place(row, kind, room, limit is None), second, *_numbers(row))
    out.print(table)
    rest = rows[len(shown) :]
    if rest:
        share = sum(row["share"] for row in rest)
        told = f"and {counted(len(rest), kind)} more with {share:.0%} of the time; --verbose"
        out.print(Text(told, style="dim"))
    out.print()


def _place(row: Result, kind: str, room: int, whole: bool) -> Text:
    """The name, and under it or beside it the module; the ends of long ones."""
    name = row["name"] or NOWHERE
    module = row.get("module", "")
    if kind == "kernel" and module and "/" not in name:
        return Text.assemble(_short(name, room, whole), "\n", (_short(module, room, whole), "dim"))
    return Text(_short(name, room, whole))


def _short(text: str, room: int, whole: bool) -> str:
    return text if whole or len(text) <= room else f"…{text[1 - room :]}"


def _op(op: str) -> str:
    return op if len(op) <= 22 else f"{op[:21]}…"


def _numbers(row: Result) -> tuple[str, ...]:
    rate, peak = row["gflops"], row["peak_share"]
    told = ("?", "?") if row["macs"] is None else ("", "")
    if rate is not None:
        told = (f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}", f"{peak:.0%}")
    return (_milliseconds(row["ms"]), f"{row['share']:.1%}", *told)


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _total(result: Mapping[str, float]) -> str:
    return textwrap.dedent(
        f"""\
        {result["total_ms"]:.3g} ms a run without the profiler (median); kernels \
        {result["nodes_ms"]:.3g} ms, {result["untold_ms"]:.3g} ms between them. Means of \
        {result["calls"]} runs; share: of all kernels' time; peak: {result["peak_gflops"]:.3g} \
        GFLOP/s, a float32 product of 1024×1024 matrices, measured now."""
    )
