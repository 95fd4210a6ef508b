"""The example's README: rounding to two bits loses the network, training it so does not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from zoo import examples


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_command(tmp_path: Path) -> None:
    folder = tmp_path / "quantize_aware"
    shutil.copytree(
        examples.FOLDER / folder.name, folder, ignore=shutil.ignore_patterns("build", "__pycache__")
    )
    [block] = examples.shell_blocks(folder.name)
    right = [int(n) for n in re.findall(r"(\d+) of 600 right", examples.run(block, folder))]
    original, plain, trained = right
    assert original > 570
    assert plain < original - 150
    assert trained > original - 20
