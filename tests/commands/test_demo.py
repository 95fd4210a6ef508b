"""``onnxpress demo`` leaves alone what is not its own; ``tests/test_demo.py`` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Shell


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (".", ". holds other things; expected a new folder, or that of a demo"),
        ("file", "--output file (File exists); expected a folder"),
        ("file/demo", "--output file/demo (Not a directory); expected a folder"),
    ],
)
def test_other_peoples_folders(output: str, expected: str, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "held-out").mkdir()
    (tmp_path / "held-out" / "mine.png").touch()
    before = sorted(tmp_path.rglob("*"))
    assert shell("demo", "-o", output) == (2, "", f"error: {expected}\n")
    assert sorted(tmp_path.rglob("*")) == before
