"""Writes the tables of quantization.md that benchmarks have measured: ``make docs``.

Each stands between a mark that names it and the next end mark; all else is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("quantization.md")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
NO_BFLOAT16 = "has no bfloat16"


def page(text: str) -> str:
    """``text`` with every table made anew from the benchmarks' JSON."""
    calibrators = read("calibrators")
    made = {
        "ffn": calibrated(calibrators["ffn"]),
        "attention": calibrated(calibrators["attention"]),
        "matrix": matrix(read("quantize_matrix")["cells"]),
    }
    return TABLE.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n{found[3]}", text)


def read(name: str) -> Any:
    """What ``benchmarks/NAME.json`` holds."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def calibrated(found: Mapping[str, Any]) -> str:
    """One activation: calibrator → range and what is lost."""
    rows = [
        "| calibrator | range | clipped | mean squared error | cosine | error of the product |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        rows.append(
            f"| `{name}` | {row['low']:.2f} to {row['high']:.2f} | {row['clipped']:.4%} "
            f"| {row['mse']:.2e} | {row['cosine']:.5f} | {row['product']:.2%} |"
        )
    return "\n".join(rows) + "\n"


def matrix(cells: Mapping[str, Any]) -> str:
    """A row for each network and scheme; for each engine the size, the quality, int8's share."""
    titles = " | ".join(ENGINES.values())
    rows = [f"| network | scheme | {titles} |", "|---|---|---|---|"]
    for network, schemes in cells.items():
        for scheme, found in schemes.items():
            told = " | ".join(cell(found[engine]) for engine in ENGINES)
            rows.append(f"| {network} | {scheme} | {told} |")
    return "\n".join(rows) + "\n"


def cell(found: Mapping[str, Any]) -> str:
    """Size, quality and int8's share, or why there are none."""
    if "why" in found:
        if NO_BFLOAT16 in found["why"]:
            return "no bfloat16"
        return "nothing to quantise" if "changes nothing" in found["why"] else str(found["why"])
    quality = found["quality"]["value"]
    return f"{found['size_ratio']:.2f}× · {quality:.4f} · {found['int8_macs_share']:.0%}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
