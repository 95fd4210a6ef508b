"""Environments of their own for the tools that benchmarks compare with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S = 900


def python_for(requirements: str, folder: Path) -> Path:
    """The interpreter in ``folder``/venv, made where it is missing or the requirements changed."""
    venv, wanted = folder / "venv", HERE / requirements
    python, stamp = venv / "bin" / "python", venv / "made-from.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted.read_text("utf-8"):
        print("Setting up the peers' environment ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", wanted], check=True)
        stamp.write_text(wanted.read_text("utf-8"), "utf-8")
    return python


@dataclass(frozen=True)
class Ran:
    """A process that ended: the last line that it printed, or ``why`` it failed."""

    line: str = ""
    why: str = ""


def run(words: Sequence[object]) -> Ran:
    """A process with a limit of time."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ran(why=f"took more than {LIMIT_S} s")
    out, err = (text.strip().splitlines() for text in (done.stdout, done.stderr))
    if done.returncode < 0:
        return Ran(why=f"crashed with signal {-done.returncode}")
    if done.returncode:
        return Ran(why=(err or out or [f"exit code {done.returncode}"])[-1][:300])
    return Ran(out[-1] if out else "")
