"""Each example's README does what it says: its commands run as they are, to a real quality."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoo import examples


@dataclass(frozen=True)
class Expected:
    """What a press of the example must measure: ``metric`` by name, ``origin`` at least.

    ``origin`` is the original's own metric on the labels; None where there are no labels.
    """

    metric: str
    origin: float | None


UNPRESSED = ("quantize_aware",)
"""Examples that press nothing; each has a test of its own."""

EXPECTED: dict[str, Expected] = {
    "detection": Expected("COCO mAP", 0.5),
    "face_embedding": Expected("Spearman correlation", None),
    "image_classification": Expected("accuracy", 0.9),
    "segmentation": Expected("mIoU / origin's mIoU", 0.7),
    "sentence_embedding": Expected("Spearman correlation", None),
    "super_resolution": Expected("PSNR / origin's PSNR", 39.0),
    "tabular": Expected("accuracy", 0.93),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [n for n in examples.names() if n not in UNPRESSED])
def test_the_commands_of_a_readme(name: str, tmp_path: Path) -> None:
    assert name in EXPECTED, f"example '{name}' has no expected quality here: add one"
    expected, folder = EXPECTED[name], tmp_path / name
    shutil.copytree(
        examples.FOLDER / name, folder, ignore=shutil.ignore_patterns("build", "__pycache__")
    )
    blocks = examples.shell_blocks(name)
    assert blocks
    for block in blocks:
        examples.run(block, folder)
    reports = [json.loads(path.read_text()) for path in folder.rglob("report.json")]
    assert reports, "no command wrote a bundle"
    for report in reports:
        quality = report["baseline"]["quality"]
        assert expected.metric in quality["metric"]
        if expected.origin is not None:
            assert quality["origin"] >= expected.origin
        assert report["chosen"] is not None
        [chosen] = [row for row in report["candidates"] if row["name"] == report["chosen"]]
        assert chosen["quality"]["low"] >= report["floor"]
        assert report["samples"]["random"] is False


def test_the_readmes_stay_short() -> None:
    for name in examples.names():
        lines = (examples.FOLDER / name / "README.md").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 80, f"examples/{name}/README.md has {len(lines)} lines"
