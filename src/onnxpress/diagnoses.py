"""How findings and differences look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "info": ("·", "dim")}
"""Level of a finding → its mark and style."""


def show_checked(result: Result, *, verbose: bool = False) -> None:
    """The findings, those alike as one (``verbose``: each by its name), and the answer."""
    out = console()
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in result["findings"]:
        key = finding["level"], finding["check"], finding["what"], finding["fix"]
        alike.setdefault(key, []).append(finding["where"])
    for (level, check, what, fix), places in alike.items():
        mark, style = MARKS[level]
        shown = places if verbose else places[:3]
        more = f" and {len(places) - len(shown)} more" if len(places) > len(shown) else ""
        out.print(f"{mark} {check}: {', '.join(shown)}{more}", style=style, markup=False)
        out.print(f"    {what}", markup=False)
        if fix:
            Console(highlight=False, soft_wrap=True).print(f"    → {fix}", markup=False)
    for why in dict.fromkeys(result["skipped"].values()):
        names = ", ".join(name for name, reason in result["skipped"].items() if reason == why)
        out.print(f"· not done, as {why}: {names}", style="dim", markup=False)
    levels = [finding["level"] for finding in result["findings"]]
    told = [
        f"{count} {level}{'s' * (count > 1)}" for level in MARKS if (count := levels.count(level))
    ]
    answer = ", ".join(told).replace("infos", "notes").replace("info", "note") or "nothing found"
    out.print(f"{result['model']}: {answer}", style="bold", markup=False)


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
    alike: dict[str, list[Result]] = {}
    for group in result["merged"]:
        into = _ops(group["into"]) or "a constant"
        alike.setdefault(f"{_ops(group['from'])} → {into}", []).append(group)
    for told, groups in alike.items():
        table.add_row("merged", f"{len(groups)}×", Text(told))
        for group in groups if verbose else groups[:1]:
            before = ", ".join(_called(group["from"], verbose))
            after = ", ".join([*_called(group["into"], verbose), *group["constants"]])
            table.add_row("", "", Text(f"{before} → {after}", style="dim"))
    for kind in ("removed", "added"):
        for op, names in _by_op(result[kind]).items():
            shown = names if verbose else names[:2]
            more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
            text = Text(op).append(f"  {', '.join(shown)}{more}", style="dim")
            table.add_row(kind, f"{len(names)}×", text)
    changes = result["changed"] if verbose else result["changed"][:MOST_CHANGES]
    for change in changes:
        table.add_row("changed", change["kind"], Text(_change(change)))
    out.print(table)
    if len(changes) < len(result["changed"]):
        out.print(f"  and {len(result['changed']) - len(changes)} more changes: -v tells them all")
    steps = ", ".join(f"{step['step']} ({step['rewrites']})" for step in result["journal"])
    if steps:
        out.print(f"steps since: {steps}", style="dim", markup=False)
    nodes = result["nodes"]
    out.print(
        f"{nodes['before']} → {counted(nodes['after'], 'node')}, {nodes['same']} of them the same",
        style="bold",
    )


MOST_CHANGES = 12
"""Changes that are told without ``-v``."""
MOST_OPS = 8
"""Operators of one group that are told."""


def _by_op(nodes: Sequence[Result]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        found.setdefault(node["op"], []).append(node["node"])
    return found


def _ops(nodes: Sequence[Result]) -> str:
    """Each operator with its number, the frequent ones first."""
    counts = {op: len(names) for op, names in _by_op(nodes).items()}
    told = [op if count == 1 else f"{count} {op}" for op, count in counts.items()]
    return " + ".join(told[:MOST_OPS]) + (" + …" if len(told) > MOST_OPS else "")


def _called(nodes: Sequence[Result], verbose: bool) -> list[str]:
    names = [node["node"] for node in nodes]
    return names if verbose or len(names) <= 2 else [names[0], "…", names[-1]]


def _change(change: Result) -> str:
    what = f"{change['where']} {change['what']}: ".replace(" : ", ": ")
    if change["elements"] is not None and change["before"] == change["after"]:
        most = change["max_abs_diff"]
        by = f", by up to {most:.3g}" if most is not None else ""
        return f"{what}{change['elements']} of {change['size']} elements differ{by}"
    return f"{what}{change['before'] or 'none'} → {change['after'] or 'none'}"
