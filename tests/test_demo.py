"""The demo does the main job on a real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import onnxpress


@pytest.mark.slow
def test_digits(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "onnxpress", "demo", "digits", "-o", str(tmp_path / "d"), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
        timeout=600,
    )
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert result["accuracy"] >= 0.97
    assert result["floor"] == 0.99
    chosen = next(row for row in result["candidates"] if row["name"] == result["chosen"])
    assert chosen["quality"]["low"] >= 0.99
    assert chosen["speedup"]["low"] > 1
    with onnxpress.open(tmp_path / "d" / "bundle") as predictor:
        images = sorted((tmp_path / "d" / "held-out").rglob("*.png"))
        answers = predictor.predict(images)
    right = [
        answer["class"] == path.parent.name for answer, path in zip(answers, images, strict=True)
    ]  # type: ignore[index]
    assert sum(right) / len(right) >= 0.97
    html = (tmp_path / "d" / "bundle" / "report.html").read_text(encoding="utf-8")
    assert result["chosen"] in html
