"""The calibrators on two activations of a trained transformer.

    python benchmarks/calibrators.py

all-MiniLM-L6-v2 reads the sentences of this project's LICENSE. ``ffn`` is what the third layer's
last product multiplies, behind Gelu: its outliers count. ``attention`` is what the output
projection of the last layer's attention multiplies: its outliers are rare and small. Writes
calibrators.json, of which docs/quantization.md shows the tables (``make docs``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from quantize_nets import ROOT, minilm_folder

from onnxpress.calibrator import Calibrator
from onnxpress.observed import Observed
from onnxpress.quantization import activation_grid, constant_weight
from onnxpress.source import ExportOptions, open_source
from onnxpress.spelling import read
from onnxpress.verbs.convert import convert
from onnxpress.verbs.observe import tapped

JSON = Path(__file__).with_suffix(".json")
CALIBRATORS = (
    "minmax", "moving_average", "percentile", "percentile(percentile=99.9)", "entropy", "mse"
)  # fmt: skip
DTYPE, ROWS = "uint8", 8
TENSORS = {"ffn": 2 * 6 + 5, "attention": 5 * 6 + 3}
"""What is looked at, by which product with a weight reads it; each layer has six."""


def sentences() -> list[str]:
    """5 to 60 words each, from this project's LICENSE."""
    text = re.sub(r"\s+", " ", (ROOT / "LICENSE").read_text(encoding="utf-8"))
    return [s for s in re.split(r"(?<=[.;:]) ", text) if 5 <= len(s.split()) <= 60]


def activations() -> Mapping[str, tuple[Sequence[np.ndarray], np.ndarray]]:
    """Title → the values, a batch of 8 sentences each, and the weight that they multiply."""
    with open_source(f"sentence-transformers:{minilm_folder()}") as origin:
        assert origin.processing is not None
        assert origin.processing.text is not None
        encode = origin.processing.text.open().encode
        model = convert(origin, ExportOptions()).model
        texts = sentences()
        batches = [encode(texts[i : i + ROWS]) for i in range(0, len(texts), ROWS)]
    products = []
    for node in model.ir.graph:
        weight = constant_weight(node)
        if weight is not None and node.inputs[0] is not None:
            products.append((str(node.inputs[0].name), weight))
    found = {}
    for title, index in TENSORS.items():
        name, weight = products[index]
        found[title] = [each[name] for each in tapped(model, [name], batches)], weight
    return found


def figures(
    name: str, batches: Sequence[np.ndarray], weight: np.ndarray, dtype: str = DTYPE
) -> dict[str, float]:
    """What calibrator ``name`` chooses for the batches, and what is lost by it.

    ``product`` is the error of the product with the float weight, as a share of its power.
    """
    seen = Observed()
    for batch in batches:
        seen.see(batch)
    chosen = read(Calibrator, "calibrators", name).range(seen, dtype)
    values = np.concatenate([batch.reshape(-1, batch.shape[-1]) for batch in batches])
    grid = activation_grid(chosen, dtype)
    low, high = grid.bounds
    half = float(grid.scale) / 2
    rounded = grid.nearest(values)
    exact, wrong = values.astype(np.float64), (rounded - values).astype(np.float64)
    wanted = exact @ weight
    return {
        "low": chosen.low,
        "high": chosen.high,
        "clipped": float(((values < low - half) | (values > high + half)).mean()),
        "mse": float(np.square(wrong).mean()),
        "cosine": float(
            np.vdot(exact, rounded) / np.linalg.norm(exact) / np.linalg.norm(rounded)
        ),
        "product": float(np.square(wrong @ weight).sum() / np.square(wanted).sum()),
    }  # fmt: skip


def tables() -> Mapping[str, object]:
    """Of both activations and all calibrators."""
    found: dict[str, object] = {}
    for title, (batches, weight) in activations().items():
        values = np.concatenate([batch.reshape(-1) for batch in batches])
        size = np.abs(values)
        found[title] = {
            "values": {
                "count": int(values.size),
                "low": float(values.min()),
                "high": float(values.max()),
                "std": float(values.std()),
                "largest_of_99_9": float(np.quantile(size, 0.999)),
            },
            "rows": {name: figures(name, batches, weight) for name in CALIBRATORS},
        }
    return found


if __name__ == "__main__":
    JSON.write_text(json.dumps(tables(), indent=1) + "\n", encoding="utf-8")
    print(JSON.read_text(encoding="utf-8"))
