"""Pressed CNNs against PyTorch eager: speed at 224×224, quality at 64×64 after training.

    python benchmarks/bench_press_cnn.py [--json FILE] [--rounds N]

One process per candidate, interleaved rounds, two threads each; ratios with 95 % intervals.
The bars are for a CPU with an int8 dot product (VNNI); without one they do not apply.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import models

from onnxpress import api
from onnxpress.machine import this_machine
from onnxpress.pressing.result import Pressed

IMAGENET = "size=256,crop=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225"
BARS = {
    ("resnet18", 1): 4.5,
    ("mobilenet_v2", 1): 6.0,
    ("resnet18", 8): 4.0,
    ("mobilenet_v2", 8): 4.5,
}
THREADS = 2
QUALITY_BAR = 0.99


def speed(name: str, batch: int, photos: Path, folder: Path, rounds: int) -> dict[str, object]:
    """Press seeded weights; untrained ones say nothing about quality, hence floor 0."""
    started = time.monotonic()
    result = api.press(
        f"torch:models:{name}",
        samples=photos,
        preprocess=IMAGENET,
        floor=0,
        batch=batch,
        threads=THREADS,
        rounds=rounds,
        output=folder / name,
    )
    assert isinstance(result, Pressed)
    chosen = next(trial for trial in result.candidates if trial.name == result.chosen)
    assert chosen.row is not None
    assert chosen.row.speedup is not None
    bar = BARS[name, batch] if this_machine().fast_int8 else None
    return {
        "model": name,
        "batch": batch,
        "form": chosen.name,
        "executed": chosen.row.executed,
        "eager_ms": result.baseline["latency_ms"]["p50"],  # type: ignore[index]
        "pressed_ms": chosen.row.latency_ms.p50,
        "speedup": chosen.row.speedup.to_dict(),
        "bar": bar,
        "holds": None if bar is None else chosen.row.speedup.value >= bar,
        "press_s": time.monotonic() - started,
        "others": {
            trial.name: trial.row.speedup.value
            for trial in result.candidates
            if trial.row and trial.row.speedup
        },
    }


def again(name: str, photos: Path, folder: Path, rounds: int) -> float:
    """Seconds to press once more with another floor, all else found done."""
    started = time.monotonic()
    api.press(
        f"torch:models:{name}",
        samples=photos,
        preprocess=IMAGENET,
        floor=-1,
        batch=8,
        threads=THREADS,
        rounds=rounds,
        output=folder / name,
    )
    return time.monotonic() - started


def quality(name: str, folder: Path, seconds: float, rounds: int) -> dict[str, object]:
    """Train on digits, press with labels: what wins and how much quality it keeps."""
    checkpoint, images, accuracy = models.train_on_digits(name, folder, seconds)
    result = api.press(
        f"torch:models:{name}",
        samples=images,
        checkpoint=checkpoint,
        preprocess=f"size={models.SIDE},mean=0.5,std=0.5",
        floor=QUALITY_BAR,
        threads=THREADS,
        rounds=rounds,
        output=folder / f"{name}-bundle",
    )
    assert isinstance(result, Pressed)
    chosen = next((trial for trial in result.candidates if trial.name == result.chosen), None)
    row = chosen.row if chosen else None
    return {
        "model": name,
        "accuracy": accuracy,
        "form": chosen.name if chosen else None,
        "speedup": row.speedup.to_dict() if row and row.speedup else None,
        "quality": row.quality.to_dict() if row and row.quality else None,
        "holds": bool(row and row.quality and row.quality.low >= QUALITY_BAR),
        "verdict": result.verdict,
    }


def main() -> None:
    """Print the tables; with ``--json`` write them too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--train-seconds", type=float, default=90)
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.cpu}, {machine.threads} threads usable, {', '.join(machine.isa)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = models.photos(folder / "photos", 64)
        speeds, repeats = [], {}
        for model, batch in BARS:
            row = speed(model, batch, photos, folder, options.rounds)
            speeds.append(row)
            ratio = row["speedup"]
            bar = (
                "bar not applicable"
                if row["bar"] is None
                else f"bar {row['bar']}×, {'holds' if row['holds'] else 'MISSED'}"
            )
            print(
                f"{model:13} batch {batch}: {row['eager_ms']:7.2f} → {row['pressed_ms']:6.2f} ms  "
                f"{ratio['value']:5.2f}× ({ratio['low']:.2f}-{ratio['high']:.2f})  {bar}  "  # type: ignore[index]
                f"{row['form']}, pressed in {row['press_s']:.0f} s",
                flush=True,
            )
        for model in ("resnet18", "mobilenet_v2"):
            repeats[model] = again(model, photos, folder, options.rounds)
            print(
                f"{model:13} pressed again with another floor: {repeats[model]:.1f} s", flush=True
            )
        qualities = []
        for model in ("resnet18_digits", "mobilenet_v2_digits"):
            kept = quality(model, folder, options.train_seconds, options.rounds)
            qualities.append(kept)
            print(f"{model:20} accuracy {kept['accuracy']:.4f}: {kept['verdict']}", flush=True)
    if options.json:
        data = {
            "machine": machine.to_dict(),
            "speed": speeds,
            "again_s": repeats,
            "quality": qualities,
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
