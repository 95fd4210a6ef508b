"""How each result looks to a person, from the very dict that ``--json`` prints."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from onnxpress.terminal import console, counted, in_bytes, rows_table, warn
from onnxpress.verbs.score import RANDOM
from onnxpress.verbs.verify import told_shapes

SHOWN = 12
"""Inputs and outputs of a model that are told."""
MANY_SHAPES = 8
"""Where more were compared, they are told together."""

TRIALS = 8
"""Of the settings that tune tried, without -v."""

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
        table.add_row(form["name"], form["requested"], form["recipe"] or form["scheme"] or "–")
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
        for one in result[kind][:SHOWN]:
            out.print(f"  {kind[:-1]:6} {spec(one)}", markup=False)
        if len(result[kind]) > SHOWN:
            more = f"and {len(result[kind]) - SHOWN} more; --json tells them all"
            out.print(f"  {'':6} {more}", markup=False)
    if result["verified"]:
        show_verified(result["verified"], "")
    for name in result["untried"]:
        warn(f"the original takes no other size of '{name}' than the example's")


def show_verified(verified: Result, mismatch: str, *, verbose: bool = False) -> None:
    """A line for each shape (``verbose``: batch) that was compared, and one with the answer.

    Many shapes, as texts have, are one line with the least and the largest of each size.
    """
    out = console()
    alike: dict[tuple[str, str, int], list[float]] = {}
    cases = verified["cases"]
    many = not verbose and len({told_shapes(case["shapes"]) for case in cases}) > MANY_SHAPES
    spans = {ok: _span([c["shapes"] for c in cases if c["ok"] == ok]) for ok in (True, False)}
    for number, case in enumerate(cases):
        shapes = told_shapes(spans[case["ok"]] if many else case["shapes"])
        found = alike.setdefault(("✓" if case["ok"] else "✗", shapes, number if verbose else 0), [])
        found.append(case["max_abs_diff"])
    for (mark, shapes, _), found in alike.items():
        times = f" ({len(found)} batches)" if len(found) > 1 else ""
        line = f"  {mark} {shapes}{times}: largest difference {max(found):.3g}"
        out.print(
            textwrap.fill(line, out.width, subsequent_indent="    ", break_on_hyphens=False),
            markup=False,
        )
    if verified["finite"] < 1:
        warn(f"only {verified['finite']:.1%} of the original's values are finite numbers")
    answer = "the same answers" if verified["ok"] else f"different: {mismatch}"
    out.print(
        f"{answer} (|a-b| ≤ {verified['atol']:.2g} + {verified['rtol']:g}·|a|)", style="bold",
        markup=False,
    )  # fmt: skip


def _span(shapes: list[dict[str, list[int]]]) -> dict[str, list[str]]:
    """Of each input the least and the largest of each size: ``4``, ``9–17``."""
    sizes = {name: [case[name] for case in shapes] for name in (shapes[0] if shapes else ())}
    return {
        name: [
            str(min(of)) if min(of) == max(of) else f"{min(of)}–{max(of)}"
            for of in zip(*every, strict=True)
        ]
        for name, every in sizes.items()
    }


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
        f"{result['model']}: {before['nodes']} → {counted(after['nodes'], 'node')}, "
        f"{in_bytes(before['size_bytes'])} → {in_bytes(after['size_bytes'])}",
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
    speedup, share = result["speedup"], result["executed"]["int8_macs_share"]
    ran = "how much of it ran in int8 is not known"
    if share is not None:
        ran = f"{share:.0%} of the multiply-adds ran in int8"
    out.print(
        f"{result['model']}: {result['scheme']} on {result['engine']}, "
        f"{before['size_bytes'] / 1e6:.2f} → {after['size_bytes'] / 1e6:.2f} MB, "
        f"{before['latency_ms']['typical']:.3g} → {after['latency_ms']['typical']:.3g} ms "
        f"({speedup['value']:.2f}×, {speedup['low']:.2f}–{speedup['high']:.2f})",
        markup=False,
    )
    out.print(
        f"quality {quality['value']:.4f}, at least {quality['low']:.4f} "
        f"({quality['metric']}, n={quality['n']}); {ran}",
        markup=False,
    )
    for key, value in result["settings"]["options"].items():
        out.print(f"measured with {key}={value}: run it with that too", markup=False)
    for warning in (*([RANDOM] if result["random_samples"] else []), *result["warnings"]):
        warn(warning)
    for kept in result["kept_float"]:
        out.print(f"  kept in float: {kept['node']}: {kept['why']}", markup=False)
    if not result["faster"]:
        why = result["not_faster_because"]
        warn(f"it is not faster than the float model on this engine: {why}")
    if result["holds"] is False:
        warn(f"the quality is below the floor {result['floor']:g}")


def show_bench(result: Result) -> None:
    """A table per point of the sweep, what has no time below the first; then the verdict."""
    out = console()
    untimed = [
        {"name": name, "ok": False, "latency_ms": None, "quality": result["refused"].get(name)}
        for name in result["failures"]
        if all(row["name"] != name for row in result["rows"])
    ]
    points = dict.fromkeys((row["batch"], row["length"]) for row in result["rows"])
    for number, (batch, length) in enumerate(points):
        rows = [row for row in result["rows"] if (row["batch"], row["length"]) == (batch, length)]
        tokens = "" if length is None else f" of {length} tokens"
        whole = ", from records to predictions" if result["end_to_end"] else ""
        told = f"batch {batch}{tokens}, {result['rounds']} rounds{whole}"
        out.print(told, style="bold", markup=False)
        out.print(rows_table([*rows, *([] if number else untimed)]))
    out.print(result["verdict"], style="bold", markup=False)
    for crossover in result["crossovers"][:SHOWN]:
        out.print(crossover["text"], markup=False)
    if len(result["crossovers"]) > SHOWN:
        out.print(f"and {len(result['crossovers']) - SHOWN} more; --json tells them all")


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


def spec(told: Result) -> str:
    """An input or output: its name, type and shape."""
    shape = "…" if told["shape"] is None else ", ".join(map(str, told["shape"]))
    dtype = "string" if told["dtype"] == "object" else told["dtype"]
    return f"{told['name']}: {dtype}[{shape}]"


def show_tuned(result: Result, *, verbose: bool) -> None:
    """The trials that came furthest, what mattered, and the settings that are best."""
    out = console()
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("settings", overflow="fold")
    for name in ("× baseline", "95 %", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    timed = [trial for trial in result["trials"] if trial["latency_ms"] is not None]
    timed.sort(key=lambda trial: trial["speedup"]["value"], reverse=True)
    for trial in timed if verbose else timed[:TRIALS]:
        speedup = trial["speedup"]
        chosen = trial["settings"] == result["best"]
        table.add_row(
            Text(f"{trial['name']}{' ✓' if chosen else ''}", style="bold" if chosen else ""),
            f"{speedup['value']:.2f}",
            f"{speedup['low']:.2f}-{speedup['high']:.2f}" if trial["changes"] else "",
            f"{trial['rungs']}×",
        )
    out.print(table)
    refused = [trial for trial in result["trials"] if trial["latency_ms"] is None]
    for trial in refused if verbose else []:
        out.print(f"✗ {trial['name']}: {trial['reason']}", style="dim", markup=False)
    out.print(
        f"{len(timed)} of {len(result['trials'])} settings timed in {result['spent_s']:.0f} s, "
        f"batch {result['batch']}, for {result['objective']}"
        + ("" if verbose else "; -v: all of them"),
        style="dim",
        markup=False,
    )
    mattered = [effect["text"] for effect in result["mattered"] if not effect["tie"]]
    out.print("what mattered:" if mattered else "nothing that was tried mattered")
    for text in mattered:
        out.print(f"  {text}", markup=False)
    for warning in result["warnings"]:
        warn(warning)
    out.print()
    speedup = result["speedup"]
    verdict = "Nothing beats the defaults beyond the noise."
    if not any(trial["latency_ms"] and trial["changes"] for trial in result["trials"]):
        verdict = "Nothing was tried: give a longer --budget."
    if result["improved"]:
        best = next(t["name"] for t in timed if t["settings"] == result["best"])
        verdict = (
            f"{best} is {speedup['value']:.2f}× as fast as the defaults "
            f"({speedup['low']:.2f}-{speedup['high']:.2f}×)."
        )
    out.print(verdict, style="bold", markup=False)
    if "settings" in result:
        out.print(f"settings: {result['settings']}", markup=False)
