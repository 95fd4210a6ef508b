"""How the difference of two models looks in a terminal: at most a screen, unless verbose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

MOST_ROWS = {"merged": 6, "removed": 4, "added": 3, "changed": 4}
"""Rows of each kind that are told without ``-v``."""
MOST_PASSES = 2
"""Passes of one row that are told without ``-v``, the last ones."""
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
        shown = rows if verbose else rows[: MOST_ROWS[kind]]
        for mark, told, names in shown:
            table.add_row(kind, mark, told)
            for line in names:
                table.add_row("", "", _line(line, verbose))
        hidden += len(rows) - len(shown)
    out.print(table)
    if hidden:
        out.print(f"  and {hidden} more of these: -v tells them all")
    counts: dict[str, int] = {}
    for step in result["journal"]:
        counts[step["step"]] = counts.get(step["step"], 0) + step["rewrites"]
    steps = ", ".join(f"{name} ({count})" for name, count in counts.items())
    if steps:
        out.print(f"steps since: {steps}", style="dim", markup=False)
    nodes = result["nodes"]
    out.print(
        f"{nodes['before']} → {counted(nodes['after'], 'node')}, {nodes['same']} of them the same",
        style="bold",
    )


Row = tuple[str, Text, Sequence[str]]
"""How many or which, what, and lines of names."""


def _line(names: str, verbose: bool) -> Text:
    """One line, unless all is wanted."""
    return Text(names, style="dim", no_wrap=not verbose, overflow="fold" if verbose else "ellipsis")


def _merges(groups: Sequence[Result], verbose: bool) -> Iterator[Row]:
    """One row for those that compute alike, the most first; the names of one, or of all."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for group in groups:
        key = _computing(group["from"]), _ops(group["into"]) or "a constant"
        alike.setdefault(key, []).append(group)
    for (_, into), merged in sorted(alike.items(), key=lambda item: -len(item[1])):
        passes = _by((name for group in merged for name in group["passes"]), verbose)
        text = Text(f"{_all_ops([group['from'] for group in merged])} → {into}")
        text.append(passes, style="cyan")
        names = []
        for group in merged if verbose else merged[:1]:
            before = ", ".join(_called(group["from"], verbose))
            after = ", ".join([*_called(group["into"], verbose), *group["constants"]])
            names.append(f"{before} → {after}")
        yield f"{len(merged)}×", text, names


def _alone(nodes: Sequence[Result], verbose: bool) -> Iterator[Row]:
    """Nodes of one model only: a row for the pass that did it, if known, otherwise by operator."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for node in nodes:
        last = node["passes"][-1] if node["passes"] else ""
        alike.setdefault((last, "" if last else node["op"]), []).append(node)
    for (last, _), group in sorted(alike.items(), key=lambda item: -len(item[1])):
        text = Text(_ops(group, counts=bool(last))).append(_by([last], verbose), style="cyan")
        names = [node["node"] for node in group]
        shown = names if verbose else names[:MOST_NAMES]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        yield f"{len(group)}×", text, [f"{', '.join(shown)}{more}"]


def _changes(changes: Sequence[Result], verbose: bool) -> Iterator[Row]:
    """A row each; opsets that only one model asks for are one, and so are inputs, the last."""
    for before, after, what in (
        ("after", "before", "only after"),
        ("before", "after", "only before"),
    ):
        opsets = [c for c in changes if c["kind"] == "opset" and not c[after]]
        if len(opsets) > 1:
            shown = opsets if verbose else opsets[:MOST_NAMES]
            told = ", ".join(f"{change['where']} {change[before]}" for change in shown)
            more = f" and {len(opsets) - len(shown)} more" if opsets[len(shown) :] else ""
            yield "opset", Text(f"{what}: {told}{more}"), []
            changes = [change for change in changes if change not in opsets]
    inputs = [change for change in changes if change["kind"] == "input"]
    for change in changes:
        if change["kind"] != "input":
            yield change["kind"], Text(_change(change)), []
    for change in inputs if verbose else inputs[:1]:
        more = f" and {len(inputs) - 1} more inputs" if inputs[1:] and not verbose else ""
        yield "input", Text(f"{_change(change)}{more}"), []


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


def _by(passes: Iterable[str], verbose: bool) -> str:
    names = [name for name in dict.fromkeys(passes) if name]
    if not names:
        return ""
    shown = names if verbose else names[-MOST_PASSES:]
    return f"  by {'… ' if len(shown) < len(names) else ''}{', '.join(shown)}"


def _called(nodes: Sequence[Result], verbose: bool) -> list[str]:
    names = [node["node"] for node in nodes]
    return names if verbose or len(names) <= MOST_NAMES else [names[0], "…", names[-1]]
