"""A hundred thousand sentences as a stream: sentences a second and memory, beside one thousand.

    python benchmarks/bench_stream.py [--count 100000] [--engine onnxruntime] [--form static]

all-MiniLM-L6-v2 as a bundle's ``stream`` runs it, in a process of its own that makes its sentences
as they are asked for and keeps no vector. Resident memory is read at marks on the way; the peak
after the first thousand is what everything after it may not exceed by much.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from bench_embeddings import CALIBRATING, ours, sentences
from bench_quantize import BUILD
from embedders import predicting
from quantize_matrix import built

from onnxpress import api
from onnxpress.runner import peak_rss_bytes

FIRST = 1000
MARKS = 10


def endless(texts: list[str]) -> Iterator[str]:
    """The sentences again and again, each time with another number: no two are the same."""
    for count in itertools.count():
        yield from (f"{text} {count}" for text in texts)


def child(what: str, count: int) -> None:
    """Stream ``count`` sentences; a line of JSON at each mark."""
    _, predict = predicting(what)
    texts = sentences(FIRST)
    deque(predict(texts[:64]), maxlen=0)  # warm
    begun, every = time.perf_counter(), max(FIRST, count // MARKS)
    for done, _ in enumerate(predict(itertools.islice(endless(texts), count)), 1):
        if done == FIRST or done % every == 0:
            seconds, peak_mb = time.perf_counter() - begun, peak_rss_bytes() / 1e6
            print(json.dumps({"done": done, "seconds": seconds, "peak_mb": peak_mb}), flush=True)


def main() -> None:
    """Print the marks of both runs, and the ratio of their rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--form", default="static", choices=("float32", "static"))
    parser.add_argument("--child", default="")
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.count)
        return
    net = built("MiniLM", BUILD / "MiniLM")
    with tempfile.TemporaryDirectory() as folder:
        file = net.onnx
        if asked.form == "static":
            texts = Path(folder) / "calibrating.txt"
            lines = net.samples.read_text(encoding="utf-8").splitlines()[:CALIBRATING]
            texts.write_text("\n".join(lines) + "\n", encoding="utf-8")
            done = api.quantize(
                net.onnx, scheme="static", samples=texts, engine=asked.engine, threads=2, **net.how
            )
            file = done.model.save(Path(folder) / "static.onnx")
        told = ours(file, asked.engine, {})
        marks = []
        for count in (FIRST, asked.count):
            words = [sys.executable, __file__, "--child", told, "--count", str(count)]
            ran = subprocess.run(words, capture_output=True, text=True, check=True)
            marks.append([json.loads(line) for line in ran.stdout.splitlines()])
            for mark in marks[-1]:
                rate = mark["done"] / mark["seconds"]
                print(f"{mark['done']:>8,} sentences: {rate:6.1f} a second, "
                      f"peak {mark['peak_mb']:.0f} MB")  # fmt: skip
    few, many = marks[0][-1], marks[1][-1]
    ratio = (many["done"] / many["seconds"]) / (few["done"] / few["seconds"])
    print(f"{many['done']:,} sentences run at {ratio:.3f} of the rate of {few['done']:,}")


if __name__ == "__main__":
    main()
