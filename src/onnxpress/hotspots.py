"""How ``profile`` looks to a person: the slowest kernels, the operators, the modules."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

NODES, SUMS = 15, 8
"""Rows that are told; ``--verbose`` tells all of them."""
NUMBERS = 38
"""The width of a table's numbers with their padding."""
NOWHERE = "(no module)"


def show_profiled(result: Result, *, verbose: bool = False) -> None:
    """The kernels that take longest, then operators and modules, then what it comes to."""
    out = console()
    shapes = result["shapes"].items()
    inputs = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in shapes)
    threads = counted(result["threads"], "thread")
    out.print(Text(f"{result['model']}, {threads}: {inputs}", style="bold"))
    modules = result["modules_alike"]
    _show(out, "kernel", result["nodes"], None if verbose else NODES)
    _show(out, "operator", result["by_op"], None if verbose else SUMS)
    if any(row["name"] for row in modules):
        _show(out, "module", result["by_module"] if verbose else modules, None if verbose else SUMS)
    out.print(Text(_total(result), style="dim"))
    for sentence in result["verdict"]:
        out.print(Text(sentence, style="bold"))


def _show(out: Console, kind: str, rows: Sequence[Result], limit: int | None) -> None:
    """One table; ``kind`` says what its rows are."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column(kind, overflow="fold", ratio=1)
    for name in ([] if kind == "kernel" else ["count"]) + ["ms", "share", "GFLOP/s", "of peak"]:
        table.add_column(name, justify="right", no_wrap=True)
    room = max(out.width - NUMBERS - (0 if kind == "kernel" else 7), 16)
    shown = rows if limit is None else rows[:limit]
    for row in shown:
        count = [] if kind == "kernel" else [f"{row['count']:,}"]
        table.add_row(_named(row, kind, room, limit is None), *count, *_numbers(row))
    out.print(table)
    rest = rows[len(shown) :]
    if rest:
        share = sum(row["share"] for row in rest)
        told = f"and {counted(len(rest), f'more {kind}')} with {share:.0%} of the time (-v: all)"
        out.print(Text(told, style="dim"))
    out.print()


def _named(row: Result, kind: str, room: int, whole: bool) -> Text:
    """The name; of a kernel below it the operator and the module. Long ones keep their ends."""
    name = _short(row["name"] or NOWHERE, room, whole)
    if kind != "kernel":
        return Text(name)
    module = row["module"]
    told = name == row["name"] and "/" in name
    place = "" if told else module
    times = f" ×{row['calls']}" if row["calls"] > 1 else ""
    below = f"  {row['op']}{times}"
    return Text.assemble(
        name, "\n", (f"{below}  {_short(place, room - len(below) - 2, whole)}", "dim")
    )


def _short(text: str, room: int, whole: bool) -> str:
    return text if whole or len(text) <= room else f"…{text[1 - max(room, 8) :]}"


def _numbers(row: Result) -> tuple[str, ...]:
    rate, peak = row["gflops"], row["peak_share"]
    told = ("?", "?") if row["macs"] is None else ("", "")
    if rate is not None:
        told = (f"{rate:#.3g}".rstrip(".") if rate < 1000 else f"{rate:.0f}", f"{peak:.0%}")
    return (_milliseconds(row["ms"]), f"{row['share']:.1%}", *told)


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _total(result: Result) -> str:
    return (
        f"{result['total_ms']:.3g} ms a run without the profiler (median of "
        f"{len(result['rounds_ms'])} rounds), {result['profiled_ms']:.3g} ms with it, kernels "
        f"{result['nodes_ms']:.3g} ms of it: {result['method']}, {result['runs']} runs. Share: of "
        f"the kernels' time. Peak: {result['peak_gflops']:.3g} GFLOP/s, "
        f"{result['peak']}."
    )
