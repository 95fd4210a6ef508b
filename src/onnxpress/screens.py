"""How each result looks to a person, from the very dict that ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxpress.terminal import console, rows_table, warn
from onnxpress.verbs.score import RANDOM
from onnxpress.verbs.verify import told_shapes

SHOWN = 12
"""Inputs and outputs of a model that are told."""

Result = Mapping[str, Any]
"""A JSON object; its shape is the command's contract, checked by the tests of each command."""


def show_pressed(result: Result) -> None:
    """The table and the verdict of a press; for a dry run the forms that it would try."""
    out = console()
    if result.get("dry_run"):
        _show_plan(result)
        return
    candidates = sorted(
        result["candidates"], key=lambda row: (row["latency_ms"] or {}).get("typical", math.inf)
    )
    out.print(rows_table([*candidates, result["baseline"]], result["chosen"]))
    machine, samples = result["environment"]["machine"], result["samples"]
    out.print(
        f"median ms per call ± standard deviation, batch {result['batch']}, "
        f"{result['threads']} threads, {result['rounds']} interleaved rounds; quality on "
        f"{samples['scoring']} samples that calibration never saw, floor {result['floor']:.4g} "
        f"(✗ does not hold it, or did not run); {machine['cpu']}",
        style="dim",
        markup=False,
    )
    for row in candidates:
        if row["executed"] not in (None, row["requested"]):
            told = f"{row['name']}: asked for {row['requested']}, ran in {row['executed']}"
            out.print(f"! {told}", style="dim", markup=False)
        if not row["ok"]:
            out.print(f"✗ {row['name']}: {row['reason']}", style="dim", markup=False)
    if result["floor_note"]:
        out.print(f"note: {result['floor_note']}", markup=False)
    for warning in result["warnings"]:
        warn(warning)
    out.print()
    out.print(result["verdict"], style="bold", markup=False)
    if result["bundle"]:
        out.print(f"bundle: {result['bundle']}", markup=False)
    if result["report"]:
        out.print(f"report: {result['report']}", markup=False)


def _show_plan(result: Result) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("form", "precision", "recipe"):
        table.add_column(name, overflow="fold")
    for form in result["forms"]:
        table.add_row(form["name"], form["requested"], form["recipe"] or "–")
    samples = result["samples"]
    console().print(table)
    console().print(
        f"would try {len(result['forms'])} forms of {result['source']} as {result['task']}: "
        f"{samples['calibration']} samples calibrate, {samples['scoring']} score; "
        "nothing was written",
        markup=False,
    )


def show_converted(result: Result) -> None:
    """The file, its signature and the comparison."""
    out = console()
    out.print(
        f"{result['model']}: {result['size_bytes'] / 1e6:.2f} MB, opset {result['opset']}, made by "
        f"the {result['exporter']} exporter",
        markup=False,
    )
    if result["fallback_reason"]:
        warn(result["fallback_reason"])
    for kind in ("inputs", "outputs"):
        for spec in result[kind][:SHOWN]:
            out.print(f"  {kind[:-1]:6} {_spec(spec)}", markup=False)
        if len(result[kind]) > SHOWN:
            more = f"and {len(result[kind]) - SHOWN} more; --json tells them all"
            out.print(f"  {'':6} {more}", markup=False)
    if result["verified"]:
        show_verified(result["verified"], "")
    for name in result["untried"]:
        warn(f"the original takes no other size of '{name}' than the example's")


def show_verified(verified: Result, mismatch: str, *, verbose: bool = False) -> None:
    """One line for each shape (``verbose``: batch) that was compared, and one with the answer."""
    out = console()
    alike: dict[tuple[str, str, int], list[float]] = {}
    for number, case in enumerate(verified["cases"]):
        shapes = told_shapes(case["shapes"])
        found = alike.setdefault(("✓" if case["ok"] else "✗", shapes, number if verbose else 0), [])
        found.append(case["max_abs_diff"])
    for (mark, shapes, _), found in alike.items():
        times = f" ({len(found)} batches)" if len(found) > 1 else ""
        out.print(f"  {mark} {shapes}{times}: largest difference {max(found):.3g}", markup=False)
    if verified["finite"] < 1:
        warn(f"only {verified['finite']:.1%} of the original's values are finite numbers")
    answer = "the same answers" if verified["ok"] else f"different: {mismatch}"
    out.print(
        f"{answer} (|a-b| ≤ {verified['atol']:.2g} + {verified['rtol']:g}·|a|)", style="bold",
        markup=False,
    )  # fmt: skip


def show_inspected(name: str, result: Result, *, verbose: bool = False) -> None:
    """Everything that there is to know of a model, on one screen."""
    out = console()
    opsets = ", ".join(f"{domain} {version}" for domain, version in result["opsets"].items())
    out.print(f"{name}: {result['nodes']} nodes, {opsets}, IR {result['ir_version']}", markup=False)
    out.print(
        f"  {result['parameters']:,} parameters, {result['macs'] / 1e6:,.1f} M MACs at batch 1, "
        f"{result['size_bytes'] / 1e6:.2f} MB",
        markup=False,
    )
    for kind in ("inputs", "outputs"):
        for spec in result[kind]:
            out.print(f"  {kind[:-1]:6} {_spec(spec)}", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("operator")
    table.add_column("count", justify="right")
    for op, count in result["ops"].items():
        table.add_row(op, str(count))
    out.print(table)
    for item in result["redundant"]:
        out.print(f"  redundant: {item['node']} ({item['op']}): {item['why']}", markup=False)
    if verbose:
        for entry in result["journal"]:
            told = ", ".join(f"{key} {value}" for key, value in entry.items() if value)
            out.print(f"  journal: {told}", markup=False)
        for key, value in result["metadata"].items():
            out.print(f"  metadata: {key}: {value[:200]}", markup=False)


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
        f"{nodes['before']} → {nodes['after']} nodes, {nodes['same']} of them the same",
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


def show_exported(result: Result, *, verbose: bool = False) -> None:
    """The files and the comparison."""
    for path in result["files"]:
        console().print(path, markup=False)
    if result["files"]:
        console().print(f"{result['size_bytes'] / 1e6:.2f} MB", markup=False)
    show_verified(result["verified"], "", verbose=verbose)


def show_opset(result: Result, *, verbose: bool = False) -> None:
    """The table of opsets, what a model's needs, or what became of it in another."""
    out = console()
    if "table" in result:
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for name in ("opset", "onnx", "IR version", "ONNX Runtime"):
            table.add_column(name, justify="right")
        for number, needs in result["table"].items():
            released = needs["onnxruntime"] or "none yet"
            table.add_row(number, needs["onnx"], str(needs["ir"]), released)
        out.print(table)
        return
    needs = result["needs"]
    out.print(
        f"opset {result['opset']} needs onnx {needs['onnx']}, IR version {needs['ir']} and ONNX "
        f"Runtime {needs['onnxruntime'] or '(no release yet)'} or newer",
        markup=False,
    )
    if result.get("verified"):
        show_verified(result["verified"], "", verbose=verbose)
    if result.get("model"):
        out.print(f"{result['model']}: opset {result['before']} → {result['opset']}", markup=False)


def show_optimized(result: Result, *, verbose: bool = False) -> None:
    """What passes did (``verbose``: also those that did nothing), sizes and the comparison."""
    out = console()
    before, after = result["before"], result["after"]
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("pass", "rewrites", ""):
        table.add_column(name, overflow="fold")
    told = [step for step in result["passes"] if verbose or step["rewrites"] or step["reason"]]
    for step in told:
        note = f"undone: {step['reason']}" if step["reverted"] else _short(step["reason"], verbose)
        table.add_row(step["name"], str(step["rewrites"]), Text(note))
    out.print(table if told else "no pass found anything to rewrite")
    out.print(
        f"{result['model']}: {before['nodes']} → {after['nodes']} nodes, "
        f"{before['size_bytes'] / 1e6:.2f} → {after['size_bytes'] / 1e6:.2f} MB",
        markup=False,
    )
    if result["verified"] is None:
        warn("nothing was compared (--no-verify)")
    else:
        show_verified(result["verified"], "")


def show_quantized(result: Result) -> None:
    """What was gained and what it cost."""
    out = console()
    before, after, quality = result["before"], result["after"], result["quality"]
    speedup = result["speedup"]
    out.print(
        f"{result['model']}: {result['scheme']} on {result['engine']}, "
        f"{before['size_bytes'] / 1e6:.2f} → {after['size_bytes'] / 1e6:.2f} MB, "
        f"{before['latency_ms']['mean']:.3g} → {after['latency_ms']['mean']:.3g} ms "
        f"({speedup['value']:.2f}×, {speedup['low']:.2f}–{speedup['high']:.2f})",
        markup=False,
    )
    out.print(
        f"quality {quality['value']:.4f}, at least {quality['low']:.4f} "
        f"({quality['metric']}, n={quality['n']}); "
        f"{result['executed']['int8_macs_share']:.0%} of the multiply-adds ran in int8",
        markup=False,
    )
    for warning in (*([RANDOM] if result["random_samples"] else []), *result["warnings"]):
        warn(warning)
    for kept in result["kept_float"]:
        out.print(f"  kept in float: {kept['node']}: {kept.get('why', '')}", markup=False)
    if not result["faster"]:
        warn("it is not faster than the float model on this engine")
    if result["holds"] is False:
        warn(f"the quality is below the floor {result['floor']:g}")


def show_bench(results: Sequence[Result]) -> None:
    """A table per batch size; the first row of each is the baseline."""
    out = console()
    for result in results:
        rows = result["rows"]
        if rows:
            out.print(f"batch {rows[0]['batch']}, {result['rounds']} rounds", style="bold")
            out.print(rows_table(rows))


def show_doctor(result: Result, *, verbose: bool = False) -> None:
    """The machine, the engines and what is missing."""
    out = console()
    cpu = result["cpu"]
    quota = f", container quota {cpu['quota']:g} cores" if cpu["quota"] else ""
    out.print(
        f"{cpu['cpu']} ({cpu['architecture']}): {cpu['cores']} cores, {cpu['logical_cores']} "
        f"hardware threads, {cpu['affinity']} usable{quota}; {result['threads']} threads are used",
        markup=False,
    )
    out.print(f"instruction sets: {', '.join(cpu['isa']) or 'unknown'}", markup=False)
    for name, engine in result["engines"].items():
        if engine["available"]:
            providers = ", ".join(engine["providers"])
            out.print(f"✓ {name} {engine['version']} ({providers})", markup=False)
        else:
            out.print(f"✗ {name}: {engine['reason']}", markup=False)
    told = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    out.print(f"versions: {told}", style="dim", markup=False)
    for socket, names in result["plugins"].items() if verbose else ():
        out.print(f"{socket}: {', '.join(names)}", style="dim", markup=False)
    for item in result["missing"]:
        out.print(f"missing: {item['package']}; run: {item['fix']}", markup=False)


def _short(reason: str, verbose: bool) -> str:
    """The first of many reasons, and how many more there are; ``verbose`` has them all."""
    if verbose:
        return reason
    first, *others = reason.split("; ")
    return f"{first} (and {len(others)} more)" if others else first


def _spec(spec: Result) -> str:
    shape = "…" if spec["shape"] is None else ", ".join(map(str, spec["shape"]))
    dtype = "string" if spec["dtype"] == "object" else spec["dtype"]
    return f"{spec['name']}: {dtype}[{shape}]"
