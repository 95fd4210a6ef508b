"""Calibration: memory that does not grow with the samples, and time, beside onnxruntime's.

    python benchmarks/bench_calibration.py [--only mobilenet_v2,resnet50] [--samples 16,512]

Each figure is of a process of its own: random images of 224×224 stream through torchvision's
architectures with seeded weights (they say nothing about quality, and need not here). Ours keeps
what all five calibrators need and asks each of them for every range; onnxruntime's
`quantize_static` calibrates by min-max. Seconds are of calibration alone, without importing and
without writing the quantised file; memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

SIDE = 224
NETS = ("mobilenet_v2", "resnet50")
TOOLS = ("onnxpress, all calibrators", "onnxruntime, min-max")


def images(count: int, name: str) -> Iterator[dict[str, np.ndarray]]:
    """A stream of single images, drawn as they are read."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {name: rng.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)}


def ours(path: Path, count: int) -> float:
    """Seconds of one pass and of every calibrator's choice."""
    from onnxpress import registry
    from onnxpress.model import load
    from onnxpress.recipe import Ranges
    from onnxpress.verbs.calibrate import ranges
    from onnxpress.verbs.observe import observe

    model = load(path)
    name = model.signature.inputs[0].name
    started = time.perf_counter()
    seen = observe(model, images(count, name))
    for calibrator in registry.names("calibrators"):
        ranges(seen, Ranges(calibrator))
    return time.perf_counter() - started


def theirs(path: Path, count: int) -> float:
    """Seconds of onnxruntime's min-max on the same images."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self.batches = images(count, name)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    import onnx

    name = onnx.load(str(path), load_external_data=False).graph.input[0].name
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            path,
            None,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader(name))
        calibrator.compute_data()
    return time.perf_counter() - started


def one(tool: str, path: Path, count: int) -> None:
    """What a process of its own measures of itself."""
    seconds = (ours if tool == TOOLS[0] else theirs)(path, count)
    from onnxpress.runner import peak_rss_bytes

    print(json.dumps({"seconds": seconds, "peak_bytes": peak_rss_bytes()}))


def measured(tool: str, path: Path, count: int) -> dict[str, float]:
    """Seconds and peak bytes, of a fresh process."""
    words = [sys.executable, __file__, "--one", tool, str(path), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def exported(name: str, folder: Path) -> Path:
    """An optimised file of the architecture."""
    import models

    from onnxpress import api

    image = f"image:float32[batch,3,{SIDE},{SIDE}]"
    converted = api.convert(getattr(models, name)().eval(), inputs=[image])
    return api.optimize(converted.model).model.save(folder / f"{name}.onnx")


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--samples", default="16,512")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), int(options.one[2]))
        return
    counts = [int(count) for count in options.samples.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only.split(","):
            path = exported(name, Path(folder))
            for count in counts:
                for tool in TOOLS:
                    found = measured(tool, path, count)
                    rows.append({"net": name, "samples": count, "tool": tool, **found})
                    print(
                        f"{name:14} {count:4} images  {tool:28} {found['seconds']:6.1f} s  "
                        f"{found['peak_bytes'] / 1e6:7.0f} MB",
                        flush=True,
                    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
