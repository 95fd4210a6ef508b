"""The examples as their users meet them: folders, READMEs, model files."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "examples"


def names() -> list[str]:
    """Every example: a folder with a README."""
    return sorted(readme.parent.name for readme in FOLDER.glob("*/README.md"))


def shell_blocks(name: str) -> list[str]:
    """What the README tells to type, in order; its other blocks show what is printed."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(name: str) -> list[str]:
    """The commands that the README shows with what they print, in order, each as one text."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", "".join(blocks), re.MULTILINE)


def load(name: str, file: str = "model") -> ModuleType:
    """The module ``examples/NAME/FILE.py``."""
    known = f"example_{name}_{file}"
    spec = importlib.util.spec_from_file_location(known, FOLDER / name / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # where dataclasses look for the types of their fields
    spec.loader.exec_module(module)
    return module


def run(block: str, folder: Path) -> str:
    """The commands in ``folder``, with the Python and the onnxpress of this environment.

    What they print.
    """
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
