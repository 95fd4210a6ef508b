"""Every scheme of ``onnxpress quantize`` on networks of every kind, on both engines.

    python benchmarks/quantize_matrix.py [--only CNN,LSTM] [--folder DIR] [--json FILE]

Writes quantize_matrix.json, of which docs/quantization.md shows the table (``make docs``). A cell
has the figures of ``api.quantize``, or why there are none. ``--folder`` keeps the networks.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from quantize_nets import NETS, Built

import onnxpress.verbs.comparison
import onnxpress.verbs.measure
from onnxpress import api
from onnxpress.errors import OnnxpressError
from onnxpress.machine import this_machine

JSON = Path(__file__).with_suffix(".json")
SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "static": {"scheme": "static"},
    "dynamic": {"scheme": "dynamic"},
    "weight-only 8": {"scheme": "weight-only", "bits": 8},
    "weight-only 4": {"scheme": "weight-only", "bits": 4},
    "float16": {"scheme": "float16"},
    "bfloat16": {"scheme": "bfloat16"},
}
ENGINES = ("onnxruntime", "openvino")
FAILED = "FAILED: "
"""What begins the reason of a cell that ended in no error of ours."""


def built(name: str, folder: Path) -> Built:
    """Network ``name`` in ``folder``, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "built.json"
    if not note.exists():
        made = dataclasses.asdict(NETS[name](folder))
        note.write_text(json.dumps(made, default=str), encoding="utf-8")
    known = json.loads(note.read_text(encoding="utf-8"))
    return Built(Path(known["onnx"]), Path(known["samples"]), known["how"])


def cell(net: Built, scheme: str, engine: str, seed: int = 0) -> dict[str, object]:
    """The figures of one model by one scheme on one engine, or ``why`` there are none."""
    started = time.monotonic()
    try:
        result = api.quantize(
            net.onnx, samples=net.samples, engine=engine, seed=seed, **net.how, **SCHEMES[scheme]
        ).to_dict()
    except OnnxpressError as error:
        return {"why": str(error)}
    except Exception:  # noqa: BLE001  # a bug: the matrix is there to show it
        return {"why": FAILED + traceback.format_exc().strip().splitlines()[-1]}
    before: Any = result["before"]
    after: Any = result["after"]
    quality: Any = result["quality"]
    executed: Any = result["executed"]
    kept: Any = result["kept_float"]
    return {
        "size_ratio": round(after["size_bytes"] / before["size_bytes"], 4),
        "quality": {
            key: round(quality[key], 5) if key != "n" else quality[key]
            for key in ("value", "low", "n")
        },
        "metric": quality["metric"],
        "int8_macs_share": executed["int8_macs_share"] and round(executed["int8_macs_share"], 4),
        "speedup": result["speedup"],
        "kept_float": len(kept),
        "recipe": result["recipe"],
        "warnings": result["warnings"],
        "seconds": round(time.monotonic() - started, 1),
    }


def quick() -> None:
    """Few rounds and a short warm-up: the matrix is about what runs and how good it is."""
    shorter = functools.partial(onnxpress.verbs.measure.measure, rounds=5)
    onnxpress.verbs.comparison.measure = shorter  # type: ignore[assignment]
    onnxpress.verbs.measure.WARM_LIMIT_S = 0.3


def shown(found: Mapping[str, Any]) -> str:
    """A cell as one line."""
    if "why" in found:
        return str(found["why"])[:150]
    quality = found["quality"]
    return (
        f"size {found['size_ratio']:.2f}  quality {quality['value']:.4f} (≥ {quality['low']:.4f}, "
        f"n={quality['n']})  int8 {found['int8_macs_share'] or 0:.0%}  "
        f"{found['speedup']['value']:.2f}×  {found['seconds']:.0f} s"
    )


def main() -> None:
    """Fill the cells, print each, write them all after each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(NETS), help="networks, by name")
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path, default=JSON)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the same weights each time
    quick()
    data = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {"cells": {}}
    data["machine"] = this_machine().to_dict()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only.split(","):
            place = (options.folder or Path(temporary)) / name.replace(" ", "_")
            net = built(name, place)
            accuracy = place / "accuracy.json"
            told = data["cells"].setdefault(name, {})
            about = data.setdefault("networks", {}).setdefault(name, {})
            about["size_bytes"] = net.onnx.stat().st_size
            if accuracy.exists():
                about["accuracy"] = json.loads(accuracy.read_text(encoding="utf-8"))
            print(name, about, flush=True)
            for scheme in options.schemes.split(","):
                for engine in options.engines.split(","):
                    found = cell(net, scheme, engine)
                    told.setdefault(scheme, {})[engine] = found
                    print(f"{name:12} {scheme:14} {engine:12} {shown(found)}", flush=True)
            text = json.dumps(data, indent=1, ensure_ascii=False)
            options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
