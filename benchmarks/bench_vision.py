"""JPEG files a second, from the file to the class: onnxpress beside PyTorch and the bare engines.

    python benchmarks/bench_vision.py [--count 160] [--rounds 7] [--models mobilenet_v2,resnet50]

Two threads, 224x224, batches of 16, seeded weights, float32 on all sides: what differs is the
engine, the graph, and that a stream prepares the next records while the model runs. Each way lives
in a process of its own (classifiers.py); in each round every way classifies all files once, in an
order drawn anew. Ratios to PyTorch eager are of paired rounds, with 95 % intervals. int8 with its
quality is in bench_press_cnn.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_embeddings import Way, timed
from models import photos

from onnxpress import api
from onnxpress.machine import this_machine
from onnxpress.verbs.measured import compare

HERE = Path(__file__).resolve().parent
WAYS = ("eager", "compiled", "onnxruntime", "openvino", "onnxpress-onnxruntime",
        "onnxpress-openvino")  # fmt: skip


def ways(model: str, folder: Path, files: Path) -> list[Way]:
    """Bare engines run the converted file, ours the optimised one."""
    plain = folder / f"{model}.onnx"
    converted = api.convert(f"torch:models:{model}", preprocess="size=224", verify=False)
    converted.model.save(plain)
    best = folder / f"{model}-optimized.onnx"
    api.optimize(plain, verify=False).model.save(best)
    script = HERE / "classifiers.py"
    return [
        Way(way, [sys.executable, script, way, model, best if "press" in way else plain, files])
        for way in WAYS
    ]


def main() -> None:
    """A table for each model; with ``--json`` the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default="mobilenet_v2,resnet50")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.cpu}, {machine.threads} threads usable, {', '.join(machine.isa)}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = photos(folder / "photos", options.count)
        for model in options.models.split(","):
            every = ways(model, folder, files)
            timed(every, options.rounds, folder)
            base = every[0]
            assert base.vectors is not None
            print(f"\n{model}, {options.count} files    a second  times eager        same class")
            for way in every:
                if way.vectors is None:
                    print(f"{way.name:24}{way.why}")
                    continue
                ratio = compare(way.seconds, base.seconds, 0)
                rate = options.count / statistics.median(way.seconds)
                same = float(np.mean(way.vectors == base.vectors))
                shown = f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
                print(f"{way.name:24}{rate:10.1f}  {shown:18} {same:.3f}", flush=True)
                rows.append(
                    {"model": model, "name": way.name, "seconds": way.seconds, "same": same}
                )
    if options.json:
        told = {"machine": machine.to_dict(), "count": options.count, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
