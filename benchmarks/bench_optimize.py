"""Optimisers side by side: what is left of the graph, and what that is worth.

    python benchmarks/bench_optimize.py [--only bert,vit] [--no-latency] [--json FILE]

onnxpress with its two targets (`portable`, and `for-ort`: --target onnxruntime) against onnxsim,
OnnxSlim, onnxscript's optimizer, its ort_fusions and ONNX Runtime's own levels. The networks come
from configurations, exported once into build/optimize/raw; the peers live in an environment that
the first run makes from peers-optimize.txt. `--only bert --exporters dynamo --no-latency` takes a
minute or two, less with fewer `--tools`.

Nodes count subgraphs, with functions inlined. Kernels are the nodes that ONNX Runtime executes
after it optimised the file while loading it. Seconds and memory are those of one run from file to
file in a process of its own, ours without the guard (the whole command is in the JSON); memory is
the peak less what the process held with imports done, over the file's size. Outputs are equal
where the tolerances of `onnxpress verify` hold on two batches, the second shorter.

Latency is relative to the raw file on the same engine: interleaved rounds, one process per
candidate, batch 1 and 128 tokens. Its intervals are of 95 % over all ratios of ours in the run
(Bonferroni), and one that lies wholly above 1.03 is measured once more.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import nets
import optimizers
from optimize_figures import ENGINES, RAW, SLOWER, Figures, overview, shortfalls, table
from peers import LIMIT_S, python_for, run

from onnxpress.engine import Session
from onnxpress.errors import OnnxpressError
from onnxpress.model import load
from onnxpress.runner import Artifact
from onnxpress.settings import Settings
from onnxpress.verbs.environment import environment
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.verbs.verify import compare
from onnxpress.worker import Worker

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "optimize"
BLOCKS = ("Attention", "MultiHeadAttention", "GroupQueryAttention")


def exported(name: str, exporter: str, folder: Path) -> Path:
    """The raw file, made where it is missing. Raises ``RuntimeError`` with the reason."""
    path = folder / f"{name}-{exporter}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        told = run([sys.executable, HERE / "nets.py", name, exporter, path])
        if told.why:
            raise RuntimeError(told.why)
    return path


def optimised(tool: str, raw: Path, out: Path, samples: Path, peers: Path | None) -> Figures:
    """Run ``tool`` once (ours twice: with and without the guard), and read what it wrote."""
    figures = Figures(tool)
    script = HERE / "optimizers.py"
    python = sys.executable if tool in optimizers.OURS else peers
    told = run([python, script, tool, raw, out, samples])
    if told.why or not out.is_file():
        figures.why = told.why or "wrote no file"
        return figures
    size = load(raw).file_bytes
    if tool in optimizers.OURS:
        figures.guarded_s, _, figures.guarded_memory = cost(told.line, size)
        told = run([python, script, f"{tool}-alone", raw, out.with_name("alone.onnx")])
        if told.why:
            figures.why = f"without the guard: {told.why}"
            return figures
    figures.seconds, figures.cpu_s, figures.memory = cost(told.line, size)
    return figures


def cost(line: str, size: int) -> tuple[float, float, float]:
    """Seconds by the clock and of all cores, and memory in units of the file's ``size``."""
    told = json.loads(line)
    return told["seconds"], told["cpu_s"], (told["peak_bytes"] - told["base_bytes"]) / size


def count(figures: Figures, path: Path) -> None:
    """Nodes, attention blocks and size of a file."""
    model = load(path)
    ops = model.inlined().op_counts()
    figures.nodes = sum(ops.values())
    figures.attention = sum(n for op, n in ops.items() if op.rpartition("::")[2] in BLOCKS)
    figures.size_bytes = model.file_bytes


def judge(figures: Figures, raw: Worker, path: Path, net: nets.Net, threads: int) -> None:
    """Kernels, and whether the outputs equal the raw file's; each file in its own process."""
    batches = [nets.feeds(net, raw.signature, *size) for size in ((1, 24), (2, 16))]
    try:
        with opened(path, threads) as own:
            figures.kernels = len(own.executed())
            # Workers are sessions in all that `compare` asks of one.
            verified = compare(cast(Session, raw), cast(Session, own), batches)
        figures.equal = verified.ok
        figures.differs = "" if verified.ok else str(verified.first_mismatch)
    except OnnxpressError as error:
        figures.equal, figures.differs = False, str(error)


def opened(path: Path, threads: int) -> Worker:
    """A file on ONNX Runtime, in a process of its own."""
    return Worker.open(Artifact(path, Settings("onnxruntime", threads=threads)), LIMIT_S)


def all_tools(
    raw: Path, net: nets.Net, folder: Path, options: argparse.Namespace, peers: Path | None
) -> tuple[list[Figures], dict[str, Path]]:
    """The figures of the raw file and of each tool's, and the files that there are."""
    found, files = [Figures(RAW)], {RAW: raw}
    count(found[0], raw)
    samples = folder / "samples.npz"
    np.savez(samples, **nets.feeds(net, load(raw).signature, 2, 16))
    with opened(raw, options.threads) as worker:
        found[0].kernels = len(worker.executed())
        for tool in options.tools:
            out = folder / f"{tool}.onnx"
            figures = optimised(tool, raw, out, samples, peers)
            found.append(figures)
            if figures.why:
                continue
            try:
                count(figures, out)
            except OnnxpressError as error:
                figures.why = f"wrote a file that cannot be read: {error}"
                continue
            judge(figures, worker, out, net, options.threads)
            files[tool] = out
    return found, files


def time_all(
    found: Sequence[Figures],
    files: Mapping[str, Path],
    net: nets.Net,
    options: argparse.Namespace,
    comparisons: int,
) -> None:
    """Latency on each engine, all files of a network in one run; the slow ones once more."""
    signature = load(files[RAW]).signature
    inputs = nets.feeds(net, signature, 1, 128)
    for engine in options.engines:
        again = measured(engine, list(files), files, inputs, options, comparisons)
        slow = [n for n, told in again.items() if n != RAW and cast(float, told["low"]) > SLOWER]
        if slow:
            once_more = measured(engine, [RAW, *slow], files, inputs, options, comparisons)
            for name in slow:
                again[name] = {**once_more.get(name, {}), "first": again[name]}
        for figures in found:
            if figures.tool in again:
                figures.latency[engine] = again[figures.tool]


def measured(
    engine: str,
    names: Sequence[str],
    files: Mapping[str, Path],
    inputs: Mapping[str, object],
    options: argparse.Namespace,
    comparisons: int,
) -> dict[str, dict[str, object]]:
    """Name → milliseconds and ratio to the raw file; ``failed`` in place of them, with infinity."""
    settings = Settings(engine, threads=options.threads)
    candidates = [
        Candidate(n, Artifact(files[n], settings), engine, "float32", files[n].stat().st_size)
        for n in names
    ]
    told = measure(candidates, inputs, baseline=RAW, batch=1, rounds=options.rounds)  # type: ignore[arg-type]
    rows: dict[str, dict[str, object]] = {
        name: {"failed": why, "low": 0.0, "high": math.inf} for name, why in told.failures.items()
    }
    for row in told.rows:
        if row.speedup is None:
            continue
        wider = stretch(told.rounds, comparisons)
        value = 1 / row.speedup.value
        low, high = (
            value * (1 / end / value) ** wider if end > 0 and math.isfinite(end) else bad
            for end, bad in ((row.speedup.high, 0.0), (row.speedup.low, math.inf))
        )
        rows[row.name] = {
            "ms": row.latency_ms.p50, "ratio": value, "low": low, "high": high,
            "rounds": told.rounds, "noisy": told.noisy,
        }  # fmt: skip
    return rows


def stretch(rounds: int, comparisons: int) -> float:
    """How much wider an interval of 95 % gets, on the scale of logarithms, for all at once.

    The ratio of Student's quantiles: a bootstrap over some twenty rounds has no tails to read so
    small a probability from.
    """
    from scipy.stats import t

    one, every = (t.ppf(1 - 0.05 / (2 * n), max(rounds - 1, 1)) for n in (1, comparisons))
    return float(every / one)


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """Names separated by commas, in the order in which they are known."""
    names = [name for name in text.split(",") if name] or list(known)
    for name in names:
        if name not in known:
            sys.exit(f"unknown {what} '{name}'; expected one of {', '.join(known)}")
    return [name for name in known if name in names]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="networks: " + ", ".join(nets.NETS))
    tools = [*optimizers.OURS, *optimizers.PEERS]
    parser.add_argument("--tools", default="", help="tools: " + ", ".join(tools))
    parser.add_argument("--exporters", default="", help="dynamo, torchscript, tf2onnx")
    parser.add_argument("--engines", default="", help="for latency: " + ", ".join(ENGINES))
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--raw", type=Path, default=BUILD / "raw", help="the exported files")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--show", type=Path, nargs="+", help="print earlier figures, and stop")
    options = parser.parse_args()
    options.only = chosen(options.only, list(nets.NETS), "network")
    options.tools = chosen(options.tools, tools, "tool")
    options.exporters = chosen(options.exporters, [*nets.PYTORCH, *nets.KERAS], "exporter")
    options.engines = chosen(options.engines, ENGINES, "engine")
    return options


def main() -> None:
    """Print a table for each file and an overview; write all figures with ``--json``."""
    options = arguments()
    if options.show:
        show([json.loads(path.read_text(encoding="utf-8")) for path in options.show])
        return
    peers = (
        python_for("peers-optimize.txt", BUILD)
        if set(options.tools) & set(optimizers.PEERS)
        else None
    )
    jobs = [
        (name, exporter)
        for name in options.only
        for exporter in nets.NETS[name].exporters
        if exporter in options.exporters
    ]
    timed = sum(nets.NETS[name].timed for name, _ in jobs)
    judged = [tool for tool in options.tools if tool in optimizers.OURS] or options.tools
    comparisons = max(1, timed * len(judged) * len(options.engines))
    all_found: dict[str, list[Figures]] = {}
    missed: list[str] = []
    for name, exporter in jobs:
        net, title = nets.NETS[name], f"{name}-{exporter}"
        try:
            raw = exported(name, exporter, options.raw)
        except RuntimeError as error:
            print(f"\n{title}: not exported: {error}")
            missed.append(f"{title} was not exported: {error}")
            continue
        with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
            found, files = all_tools(raw, net, Path(folder), options, peers)
            if net.timed and not options.no_latency:
                time_all(found, files, net, options, comparisons)
        all_found[title] = found
        missed += shortfalls(title, found)
        print(table(title, found), flush=True)
        if options.json:
            write(options.json, all_found, missed, comparisons)
    conclude(all_found, missed)


def conclude(all_found: Mapping[str, Sequence[Figures]], missed: Sequence[str]) -> None:
    """The overview, and where the bars are missed."""
    print(overview(all_found))
    print()
    ours = [f for found in all_found.values() for f in found if f.tool in optimizers.OURS]
    for line in missed or (["every bar holds"] if ours else []):
        print(textwrap.fill(line, 80, subsequent_indent="  "))


def show(runs: Sequence[Mapping[str, Any]]) -> None:
    """The tables of earlier runs, the last figures of each file, and today's bars."""
    rows = {title: found for run in runs for title, found in run["files"].items()}
    all_found = {title: [Figures(**row) for row in found] for title, found in rows.items()}
    for title, found in all_found.items():
        print(table(title, found))
    conclude(all_found, [line for title in rows for line in shortfalls(title, all_found[title])])


def write(
    path: Path, found: Mapping[str, Sequence[Figures]], missed: Sequence[str], comparisons: int
) -> None:
    """All figures so far: a run that is interrupted keeps what it has."""
    data = {
        "environment": environment(),
        "comparisons": comparisons,
        "files": {name: [asdict(figures) for figures in rows] for name, rows in found.items()},
        "missed": list(missed),
    }
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
