"""A press that is stopped at any moment leaves the old bundle, and nothing that still runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onnxpress
from zoo.project import PREPROCESS, Project

STARTED_S, LONGEST_S = 1.0, 14.0
LEAVING_S = 12.0
"""How long workers may take to notice that their parent is gone."""


def words(project: Project, bundle: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "onnxpress", "press", project.ref,
            "--samples", str(project.images), "--preprocess", PREPROCESS, "--rounds", "5",
            "-o", str(bundle), *more]  # fmt: skip


def members(session: int) -> list[str]:
    """The command lines of the processes of a session, dead ones that wait for it left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            after = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(after[3]) == session and after[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_press(project: Project, tmp_path: Path, how: signal.Signals) -> None:
    bundle = tmp_path / "bundle"
    first = subprocess.run(words(project, bundle), capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    manifest = (bundle / "bundle.json").read_bytes()
    moments = random.Random(int(how))
    for seed in range(1, 5):
        process = subprocess.Popen(
            words(project, bundle, "--seed", str(seed)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(moments.uniform(STARTED_S, LONGEST_S))
        stopped = process.poll() is None
        if stopped:
            # A terminal sends Ctrl-C to all processes of the group.
            (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        out, err = process.communicate(timeout=60)
        end = time.monotonic() + LEAVING_S
        while members(process.pid) and time.monotonic() < end:
            time.sleep(0.2)
        assert members(process.pid) == []
        if stopped and how == signal.SIGINT and process.returncode != 0:
            assert (process.returncode, out, err) == (130, "", "interrupted\n")
        if process.returncode != 0:
            assert (bundle / "bundle.json").read_bytes() == manifest
        manifest = (bundle / "bundle.json").read_bytes()
        with onnxpress.open(bundle) as predictor:
            assert len(predictor.predict(list(project.labels)[:2])) == 2
        assert {path.name for path in tmp_path.iterdir()} == {"bundle", ".bundle.press"}
    last = subprocess.run(words(project, bundle), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert not list(bundle.glob(".*")), "an interrupted copy is swept by the next press"
