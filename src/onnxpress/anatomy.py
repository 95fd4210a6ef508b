"""How ``inspect`` looks to a person: one screen, and the tables of its flags."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxpress.screens import SHOWN, Result, spec
from onnxpress.terminal import console, counted, in_bytes, plain_lines

KINDS = 40
"""Operators of which the counts are told."""
REASONS = 5
"""Reasons that are told, each with an example."""
DEAREST = 10
"""Nodes below the table of operators; ``--verbose`` tells all of them."""
NUMBERS = 44
"""The width of the numbers of a node in a table."""
ASIDE = 9
"""The width of the words on the left."""


def show_inspected(name: str, result: Result, *, verbose: bool = False) -> None:
    """What there is to know of a model, on one screen; ``verbose``: without limits."""
    out = console()
    opsets = ", ".join(f"{domain} {version}" for domain, version in result["opsets"].items())
    out.print(Text(name, style="bold"), soft_wrap=True)
    _aside(
        out,
        "",
        f"{in_bytes(result['size_bytes'])}, {counted(result['nodes'], 'node')}, "
        f"{counted(result['parameters'], 'parameter')}, {opsets}, IR {result['ir_version']}",
    )
    for kind in ("inputs", "outputs"):
        found = result[kind]
        for one in found if verbose else found[:SHOWN]:
            _aside(out, kind[:-1], spec(one))
        if len(found) > SHOWN and not verbose:
            _aside(out, "", f"and {len(found) - SHOWN} more; --json tells them all")
    _aside(out, "one run", _work(result))
    _aside(out, "operators", _counts(result["ops"], None if verbose else KINDS))
    _show_redundant(out, result["redundant"], None if verbose else REASONS)
    _show_fusions(out, result["fusions"], None if verbose else REASONS)
    if result["scales"]:
        _aside(out, "scales", f"{_scales_in_short(result['scales'])}; --scales tells each")
    if verbose:
        for entry in result["journal"]:
            told = ", ".join(f"{key} {value}" for key, value in entry.items() if value)
            _aside(out, "journal", told)
        for key, value in result["metadata"].items():
            _aside(out, "metadata", f"{key}: {value[:200]}")


def show_operators(result: Result, *, verbose: bool = False) -> None:
    """What each operator costs, and the nodes that multiply most (``verbose``: every node)."""
    out, total = console(), max(result["macs"], 1)
    table = _table("operator", "count", "MACs", "share", "parameters", "activations")
    for op, row in result["operators"].items():
        table.add_row(
            _bare(op), str(row["count"]), *_macs(row["macs"], total), _number(row["parameters"]),
            in_bytes(row["activation_bytes"]),
        )  # fmt: skip
    out.print(table)
    out.print()
    nodes = _table("node", "operator", "MACs", "share", "parameters", "activations")
    layers = result["layers"]
    if not verbose:
        by_work = sorted(layers, key=lambda layer: -(layer["macs"] or 0) * layer["runs"])
        layers = [layer for layer in by_work[:DEAREST] if layer["macs"]]
    names = [_bare(layer["op"]) for layer in layers]
    room = max(out.width - NUMBERS - max(map(len, [*names, "operator"])), ASIDE)
    for layer, op in zip(layers, names, strict=True):
        macs = layer["macs"]
        told = ("?", "") if macs is None else _macs(macs * layer["runs"], total)
        place = _place(layer["node"], layer["module"])
        # The end of a name tells most.
        short = place if verbose or len(place) <= room else f"…{place[1 - room :]}"
        nodes.add_row(
            Text(short), op, *told, _number(layer["parameters"]),
            in_bytes(layer["activation_bytes"]),
        )  # fmt: skip
    if layers:
        out.print(nodes)
    out.print(f"in all {_work(result)}; activations: what the nodes make", style="dim")


def show_scales(result: Result) -> None:
    """Scale, zero point and range of each quantised tensor."""
    out = console()
    if not result["scales"]:
        out.print("no tensor is quantised")
        return
    table = _table("tensor", "type", "per", "scales", "zero", "range")
    for row in result["scales"]:
        per = row["per"] if row["axis"] is None else f"axis {row['axis']}"
        if row["count"] is None:
            told = "as it runs"
        elif row["count"] == 1:
            told = f"{row['low']:.4g}"
        else:
            told = f"{row['count']}: {row['low']:.3g} … {row['high']:.3g}"
        zeros = sorted({row["zero_low"], row["zero_high"]} - {None})
        kind = f"{row['dtype']}{' weight' if row['weight'] else ''}"
        table.add_row(
            Text(row["tensor"]), kind, per, told, " … ".join(map(str, zeros)), _range(row)
        )
    out.print(table)
    out.print(_scales_in_short(result["scales"]), style="dim")


def show_text(lines: Iterable[str]) -> None:
    """A listing: on a terminal no wider than it, in a pipe a line for each node."""
    out = console()
    if not out.is_terminal:
        plain_lines(lines)
        return
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 6)
        wrapped = textwrap.wrap(
            line, out.width, subsequent_indent=indent, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
        plain_lines(wrapped or [""])


def _work(result: Result) -> str:
    """MACs and memory of one run, and of which sizes."""
    sizes = ", ".join(f"{name}={size}" for name, size in result["sizes"].items())
    unknown, peak = result["macs_unknown"], result["activation_peak"]
    at_least = f" (without {counted(unknown, 'node')} of unknown size)" if unknown else ""
    more = (
        f" (without {counted(peak['unknown'], 'tensor')} of unknown size)"
        if peak["unknown"]
        else ""
    )
    where = f" at {_place(peak['node'], peak['module'])}" if peak["node"] else ""
    return (
        f"{_number(result['macs'])} MACs{at_least}, activations of at most "
        f"{in_bytes(peak['bytes'])}{more}{where}"
        + (f"; with {sizes} (--shape sets others)" if sizes else "")
    )


def _show_redundant(out: Console, redundant: Sequence[Result], limit: int | None) -> None:
    if not redundant:
        return
    groups: dict[tuple[str, str], list[Result]] = {}
    for item in redundant:
        groups.setdefault((item["op"], item["why"]), []).append(item)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    _aside(
        out, "redundant", f"{counted(len(redundant), 'node')}, which onnxpress optimize removes:"
    )
    for (op, why), items in ordered[:limit]:
        first = _place(items[0]["node"], items[0]["module"])
        _aside(out, "", f"{len(items)} {op}: {why}; {_such_as(items)}{first}")
    _rest(out, [len(items) for _, items in ordered[limit:]] if limit else [])


def _show_fusions(out: Console, fusions: Result, limit: int | None) -> None:
    if not (fusions["present"] or fusions["possible"] or fusions["missed"]):
        _aside(out, "fused", "no operators, and optimize finds none to fuse")
    if fusions["present"]:
        _aside(out, "fused", _counts(fusions["present"], None))
    if fusions["possible"]:
        command = f"onnxpress optimize --target {fusions['target']}"
        _aside(out, "possible", f"{_possible(fusions['possible'])} ({command})")
    groups: dict[tuple[str, str], list[Result]] = {}
    for item in fusions["missed"]:
        groups.setdefault((item["kind"], item["why"]), []).append(item)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    for (kind, why), items in ordered[:limit]:
        first = items[0]
        where = _place(first["nodes"][0], first["module"]) if first["nodes"] else ""
        blocking = first["blocking"]
        by = f", blocked by {blocking}" if blocking not in ("", *first["nodes"][:1]) else ""
        place = f"; {_such_as(items)}{where}{by}" if where else ""
        _aside(out, "missed", f"{len(items)} {kind}: {why}{place}")
    _rest(out, [len(items) for _, items in ordered[limit:]] if limit else [])


def _possible(counts: Mapping[str, int]) -> str:
    """Operators begin with a capital, passes that leave none of their own do not."""
    told = (
        f"{kind} {count:,}" if kind[0].isupper() else f"{counted(count, 'rewrite')} by {kind}"
        for kind, count in counts.items()
    )
    return ", ".join(told)


def _rest(out: Console, left: Sequence[int]) -> None:
    if left:
        reasons = counted(len(left), "other reason")
        told = f"and {sum(left)} more for {reasons}; --verbose tells them all"
        _aside(out, "", told)


def _such_as(items: Sequence[object]) -> str:
    return "at " if len(items) == 1 else "first at "


def _range(row: Result) -> str:
    if row["range_low"] is None:
        return ""
    return f"{row['range_low']:.3g} … {row['range_high']:.3g}"


def _scales_in_short(scales: Sequence[Result]) -> str:
    counts = Counter(
        f"{'weights' if row['weight'] else 'activations'} "
        + ("scaled as the model runs" if row["per"] == "computed" else f"per {row['per']}")
        for row in scales
    )
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _counts(counts: Mapping[str, int], limit: int | None) -> str:
    told = [f"{_bare(name)} {count}" for name, count in counts.items()]
    more = f", and {len(told) - limit} more kinds" if limit and len(told) > limit else ""
    return ", ".join(told[:limit]) + more


def _place(node: str, module: str) -> str:
    """A node's name, and its module where the name does not tell it."""
    return f"{node} ({module})" if module and "/" not in node else node


def _bare(operator: str) -> str:
    """An operator, without the name of ONNX Runtime's own domain."""
    return operator.removeprefix("com.microsoft::")


def _aside(out: Console, word: str, text: str) -> None:
    """``text``, wrapped, right of ``word``."""
    lines = textwrap.wrap(text, max(out.width - ASIDE - 1, 20), break_on_hyphens=False) or [""]
    for line in lines:
        out.print(Text.assemble((f"{word:{ASIDE}}", "dim"), f" {line}"), soft_wrap=True)
        word = ""


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column(first, overflow="fold")
    for name in others:
        words: dict[str, Any] = {"justify": "right", "no_wrap": True}
        table.add_column(name, **({} if name in ("operator", "type", "per") else words))
    return table


def _macs(macs: int, total: int) -> tuple[str, str]:
    return (_number(macs), f"{macs / total:.1%}") if macs else ("", "")


def _number(number: int) -> str:
    """Three digits and a unit."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return (
                f"{number / size:.3g} {unit}"
                if number < 999.5 * size
                else f"{number / size:.0f} {unit}"
            )
    return str(number)
