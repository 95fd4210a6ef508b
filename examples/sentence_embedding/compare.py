"""PyTorch beside ONNX on the same work: tokens, model, pooling over the mask, normalisation.

    python compare.py MODEL --sentences FILE [--rounds 100] [--seconds 300] [--threads 2]

MODEL is a folder that sentence-transformers saved, or a name on the hub. A fifth of the lines of
FILE, 200 at most, calibrate int8; the others are embedded, and so are the tutorial's three.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from ways import TEXTS, VECTORS, Remote, Way, feeds_of

from onnxpress import api
from onnxpress.machine import Machine, this_machine
from onnxpress.runner import Artifact, OriginRef
from onnxpress.settings import Settings
from onnxpress.signature import Feeds
from onnxpress.source import OpenOptions, open_source
from onnxpress.verbs.measure import Candidate, measure
from onnxpress.verbs.measured import Measured, Row

TUTORIAL = ("Xin chào, tôi là AI.", "Hôm nay trời đẹp quá.", "Tôi thích học máy.")
REFERENCE, BASELINE = "sentence-transformers' encode", "PyTorch eager"
EQUAL, INT8 = 0.9999, 0.99
"""The least mean cosine to the reference: of the same precision, and of int8."""
CALIBRATING = 200


def ways(model: str, folder: Path, calibrating: Sequence[str], threads: int) -> Iterator[Way]:
    """The reference, the same model run by PyTorch, and what onnxpress makes of it."""
    ref, texts = f"sentence-transformers:{model}", folder / "calibrating.txt"
    texts.write_text("\n".join(calibrating) + "\n", encoding="utf-8")
    with open_source(ref, OpenOptions()) as origin:
        how, eager = origin.processing, OriginRef(ref, OpenOptions(), threads, origin.fingerprint())
    assert how is not None
    yield Way(REFERENCE, model, how, EQUAL, threads=threads)
    yield Way(BASELINE, eager, how, EQUAL)

    def way(name: str, file: Path, engine: str, precision: str = "float32") -> Way:
        settings = Settings(engine, threads=threads, precision="float32")
        floor, size = INT8 if precision == "int8" else EQUAL, file.stat().st_size
        return Way(name, Artifact(file, settings), how, floor, precision, size)

    plain = api.convert(ref).model.save(folder / "model.onnx")
    yield way("ONNX Runtime", plain, "onnxruntime")
    better = api.optimize(plain, target="onnxruntime", samples=texts, preprocess=how)
    yield way("ONNX Runtime, optimised", better.model.save(folder / "ort.onnx"), "onnxruntime")
    small = api.quantize(plain, scheme="static", samples=texts, preprocess=how, threads=threads)
    file = small.model.save(folder / "int8.onnx")
    yield way("ONNX Runtime, int8 static", file, "onnxruntime", "int8")
    yield way("OpenVINO", plain, "openvino")


def cosines(runners: Mapping[str, Remote], feeds: Feeds) -> dict[str, float]:
    """The mean cosine of each way's vectors to the reference's."""
    found = {name: runner.run(feeds)[VECTORS] for name, runner in runners.items()}
    return {name: float((v * found[REFERENCE]).sum(1).mean()) for name, v in found.items()}


def refused(ways: Sequence[Way], close: Mapping[str, float]) -> dict[str, str]:
    """By name, why a way that answers otherwise is not timed."""
    return {
        way.name: f"wrong: mean cosine {close[way.name]:.4f}, not {way.floor:g}; not timed"
        for way in ways
        if not close[way.name] >= way.floor  # NaN is wrong, too
    }


def timed(
    ways: Sequence[Way], runners: Mapping[str, Remote], feeds: Feeds, rounds: int, seconds: float
) -> Measured:
    """``rounds`` interleaved rounds, or as many as ``seconds`` allow, but five."""
    candidates = [
        # ``measure`` opens no target where there is a runner.
        Candidate(way.name, way.target, way.engine, way.precision, way.size_bytes)
        for way in ways
    ]
    return measure(
        candidates, feeds, baseline=BASELINE, batch=len(feeds[TEXTS]), rounds=rounds,
        seconds=seconds, block_ms=20, calls=1, runners=runners,
    )  # fmt: skip


def show(
    title: str, result: Measured, close: Mapping[str, float], wrong: Mapping[str, str]
) -> None:
    """A line for each way, 80 columns wide."""
    print(f"\n{title}, {result.rounds} rounds")
    print(f"{'':30}{'ms':>7}{'± std':>7}  {'times as fast':21} {'cosine':>7} {'MB':>4}")
    for row in result.rows:
        size = f"{row.size_bytes / 1e6:.0f}" if row.size_bytes else "–"
        ms = f"{shown(row.latency_ms.mean):>7}{shown(row.latency_ms.std):>7}"
        print(f"{row.name:30}{ms}  {ratio(row):21} {close[row.name]:7.5f} {size:>4}")
    for name, why in {**wrong, **result.failures}.items():
        print(f"{name:30}{why[:50]}")
    if result.noisy:
        print(f"warning: {result.noisy}")


def shown(ms: float) -> str:
    """Four digits or so."""
    return f"{ms:.0f}" if ms >= 1000 else f"{ms:.2f}"


def ratio(row: Row) -> str:
    """To the baseline, with the ends of its 95 % interval."""
    speed = row.speedup
    if row.name == BASELINE or speed is None:
        return "1 (baseline)" if speed else "–"
    value, low, high = (f"{each:.{2 if each < 10 else 1}f}" for each in asdict(speed).values())
    told = f"{value} ({low}–{high})"
    return f"{told} tie" if row.tie else told


def described(machine: Machine, threads: int) -> str:
    """What the numbers are of, in lines of 80 columns at most."""
    slow = "" if machine.fast_int8 else "; no VNNI: int8 gains little here"
    count = f"{threads} threads" if threads > 1 else "1 thread"
    return textwrap.fill(f"{machine.cpu}, {count}, {', '.join(machine.isa)}{slow}", 80)


def main() -> None:
    """Print both tables; with ``--json`` write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=100, help="of the tutorial's sentences")
    parser.add_argument("--seconds", type=float, default=300.0, help="for the lines of FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines = options.sentences.read_text(encoding="utf-8").splitlines()
    held = min(CALIBRATING, len(lines) // 5)
    texts, calibrating = lines[held:], lines[:held]
    print(described(this_machine(), options.threads))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every = list(ways(options.model, Path(folder), calibrating, options.threads))
        runners = {way.name: Remote(way) for way in every}
        for runner in runners.values():
            stack.callback(runner.close)
        wrong = refused(every, cosines(runners, feeds_of([*TUTORIAL, *texts])))
        right = [way for way in every if way.name not in wrong]
        results = []
        for some, rounds in ((TUTORIAL, options.rounds), (texts, 20)):
            feeds = feeds_of(some)
            close = cosines(runners, feeds)
            result = timed(right, runners, feeds, rounds, options.seconds)
            show(f"{len(some)} sentences", result, close, wrong)
            results.append({"sentences": len(some), "cosines": close, **result.to_dict()})
    if options.json:
        told = json.dumps({"refused": wrong, "results": results}, indent=1)
        options.json.write_text(told + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
