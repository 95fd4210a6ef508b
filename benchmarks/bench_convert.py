"""Conversion: how long the export and the proof take, and how much memory both together.

    python benchmarks/bench_convert.py [--json FILE] [--rounds N] [--large]

Each conversion runs in a process of its own, in turn with PyTorch's exporter alone (the peer: it
writes a file and proves nothing). Memory is the peak of the process less what it has with the
imports done and no model, as a multiple of the model's bytes. ``--large`` adds transformers of
1.0 and 2.5 GB, which take minutes each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

MODELS = ("mobilenet_v2", "resnet50", "vit_b_16")
LARGE = ("transformer_1gb", "transformer_2gb5")


def ours(name: str, folder: Path) -> dict[str, float]:
    """Seconds of the export, of the proof and of the save; peak memory."""
    import models

    from onnxpress.signature import TensorSpec
    from onnxpress.source import ExportOptions, OpenOptions, open_source
    from onnxpress.verbs.convert import prove, sweep

    base = _peak()
    module, inputs = models.example_of(name)
    shape = ("batch", *inputs.shape[1:])
    spec = TensorSpec("x", str(inputs.dtype).removeprefix("torch."), shape)
    with open_source(module, OpenOptions((spec,))) as origin:
        started = time.monotonic()
        model = origin.export(ExportOptions()).model
        exported = time.monotonic()
        verified = prove(origin, model, lambda signature: sweep(signature, origin))
        proven = time.monotonic()
        assert verified.ok, verified.first_mismatch
        model.save(folder / "ours.onnx")
    return {
        "export_s": exported - started,
        "verify_s": proven - exported,
        "save_s": time.monotonic() - proven,
        "size_bytes": model.size_bytes,
        "memory": (_peak() - base) / model.size_bytes,
        "peak_rss_bytes": _peak(),
    }


def peer(name: str, folder: Path) -> dict[str, float]:
    """``torch.onnx.export`` to a file, with a free batch."""
    import models
    import torch

    base = _peak()
    module, inputs = models.example_of(name)
    started = time.monotonic()
    path = folder / "peer.onnx"
    torch.onnx.export(
        module.eval(),
        (inputs,),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    size = sum(file.stat().st_size for file in folder.iterdir())
    seconds = time.monotonic() - started
    return {"export_s": seconds, "memory": (_peak() - base) / size, "peak_rss_bytes": _peak()}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(who: str, name: str) -> dict[str, float]:
    """One run in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [sys.executable, __file__, "--one", who, name, folder],
            capture_output=True,
            text=True,
            check=True,
        )
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return result


def spread(values: list[float]) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Print a table, and write the figures of each run with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("WHO", "MODEL", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.one:
        who, name, folder = arguments.one
        print(json.dumps({"ours": ours, "peer": peer}[who](name, Path(folder))))
        return
    told = []
    print("| model | MB | verify / export | ours / torch.onnx.export | memory: ours | torch |")
    print("|---|---|---|---|---|---|")
    for name in (*MODELS, *(LARGE if arguments.large else ())):
        rounds = 1 if name in LARGE else arguments.rounds
        runs = [(measured("ours", name), measured("peer", name)) for _ in range(rounds)]
        told += [{"model": name, "ours": mine, "peer": theirs} for mine, theirs in runs]
        proof = spread([mine["verify_s"] / mine["export_s"] for mine, _ in runs])
        total = spread(
            [
                (mine["export_s"] + mine["verify_s"] + mine["save_s"]) / theirs["export_s"]
                for mine, theirs in runs
            ]
        )
        memory = (spread([run[side]["memory"] for run in runs]) for side in (0, 1))
        size = f"{runs[0][0]['size_bytes'] / 1e6:.0f}"
        print(f"| {name} | {size} | {proof} | {total} | {' | '.join(memory)} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
