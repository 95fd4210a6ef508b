"""How the difference of two models looks in a terminal: at most a screen, unless verbose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

MOST_ROWS = 8
"""Merges, and rows of nodes of one model only, that are told without ``-v``."""
MOST_CHANGES = 6
"""Changes that are told without ``-v``."""
MOST_OPS = 6
"""Operators of one group that are told."""
MOST_NAMES = 2
"""Names of nodes alike that are told without ``-v``."""
MOVES = (
    "Identity", "Constant", "Cast", "Shape", "Size", "Gather", "Slice", "Concat", "Split",
    "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Expand", "Range", "ConstantOfShape",
)  # fmt: skip
"""Operators that compute nothing: beside others they are only counted."""


def show_difference(result: Result, *, verbose: bool = False) -> None:
    """Groups alike as one (``verbose``: each with its names), then the sums."""
    out = console()
    if result["equal"]:
        for one, two in result["renamed"].items():
            out.print(f"renamed   {one} → {two}", markup=False)
        out.print("no difference", style="bold")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    hidden = 0
    for kind, rows in (
        ("merged", list(_merges(result["merged"], verbose))),
        ("removed", list(_alone(result["removed"], verbose))),
        ("added", list(_alone(result["added"], verbose))),
        ("changed", list(_changes(result["changed"], verbose))),
    ):
        most = MOST_CHANGES if kind == "changed" else MOST_ROWS
        for mark, told in rows if verbose else rows[:most]:
            table.add_row(kind, mark, told)
        hidden += 0 if verbose else len(rows[most:])
    out.print(table)
    if hidden:
        out.print(f"  and {hidden} more of these: -v tells them all")
    steps = ", ".join(f"{step['step']} ({step['rewrites']})" for step in result["journal"])
    if steps:
        out.print(f"steps since: {steps}", style="dim", markup=False)
    nodes = result["nodes"]
    out.print(
        f"{nodes['before']} → {counted(nodes['after'], 'node')}, {nodes['same']} of them the same",
        style="bold",
    )


def _merges(groups: Sequence[Result], verbose: bool) -> Iterator[tuple[str, Text]]:
    """One row for those that compute alike, the most first; the names of one, or of all."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for group in groups:
        key = _computing(group["from"]), _ops(group["into"]) or "a constant"
        alike.setdefault(key, []).append(group)
    for (_, into), merged in sorted(alike.items(), key=lambda item: -len(item[1])):
        passes = _list(name for group in merged for name in group["passes"])
        text = Text(f"{_all_ops([group['from'] for group in merged])} → {into}")
        text.append(f"  by {passes}" if passes else "", style="cyan")
        for group in merged if verbose else merged[:1]:
            before = ", ".join(_called(group["from"], verbose))
            after = ", ".join([*_called(group["into"], verbose), *group["constants"]])
            text.append(f"\n{before} → {after}", style="dim")
        yield f"{len(merged)}×", text


def _alone(nodes: Sequence[Result], verbose: bool) -> Iterator[tuple[str, Text]]:
    """Nodes of one model only: a row for each pass, where it is known, otherwise by operator."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for node in nodes:
        passes = _list(node["passes"])
        alike.setdefault((passes, "" if passes else node["op"]), []).append(node)
    for (passes, _), group in sorted(alike.items(), key=lambda item: -len(item[1])):
        text = Text(_ops(group, counts=bool(passes)))
        text.append(f"  by {passes}" if passes else "", style="cyan")
        names = [node["node"] for node in group]
        shown = names if verbose else names[:MOST_NAMES]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        text.append(f"  {', '.join(shown)}{more}", style="dim")
        yield f"{len(group)}×", text


def _changes(changes: Sequence[Result], verbose: bool) -> Iterator[tuple[str, Text]]:
    """A row each; opsets that only one model asks for are one."""
    for before, after, what in (
        ("after", "before", "only after"),
        ("before", "after", "only before"),
    ):
        opsets = [c for c in changes if c["kind"] == "opset" and not c[after]]
        if len(opsets) > 1:
            shown = opsets if verbose else opsets[:MOST_NAMES]
            told = ", ".join(f"{change['where']} {change[before]}" for change in shown)
            more = f" and {len(opsets) - len(shown)} more" if opsets[len(shown) :] else ""
            yield "opset", Text(f"{what}: {told}{more}")
            changes = [change for change in changes if change not in opsets]
    for change in changes:
        yield change["kind"], Text(_change(change))


def _change(change: Result) -> str:
    what = f"{change['where']} {change['what']}: ".replace(" : ", ": ")
    if change["elements"] is not None and change["before"] == change["after"]:
        most = change["max_abs_diff"]
        by = f", by up to {most:.3g}" if most is not None else ""
        return f"{what}{change['elements']} of {change['size']} elements differ{by}"
    return f"{what}{change['before'] or 'none'} → {change['after'] or 'none'}"


def _computing(nodes: Sequence[Result]) -> str:
    """The operators that compute, in any order; all of them where none does."""
    ops = sorted(node["op"] for node in nodes if node["op"] not in MOVES)
    return " ".join(ops or sorted(node["op"] for node in nodes))


def _all_ops(groups: Sequence[Sequence[Result]]) -> str:
    """The operators of groups that compute alike, and how many others move data beside them."""
    first = [node for node in groups[0] if node["op"] not in MOVES]
    if not first:
        return _ops(groups[0])
    counts = sorted({len(group) - len(first) for group in groups})
    if counts == [0]:
        return _ops(first)
    if counts[-1] <= 2 and len(counts) == 1:
        return _ops(groups[0])
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return f"{_ops(first)} + {many} that only move data"


def _ops(nodes: Sequence[Result], *, counts: bool = True) -> str:
    """Each operator with its number, in the order of the graph."""
    found: dict[str, int] = {}
    for node in nodes:
        found[node["op"]] = found.get(node["op"], 0) + 1
    told = [op if count == 1 or not counts else f"{count} {op}" for op, count in found.items()]
    return " + ".join(told[:MOST_OPS]) + (" + …" if len(told) > MOST_OPS else "")


def _list(passes: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(passes))


def _called(nodes: Sequence[Result], verbose: bool) -> list[str]:
    names = [node["node"] for node in nodes]
    return names if verbose or len(names) <= MOST_NAMES else [names[0], "…", names[-1]]
