"""Kills a process at every step that it takes on disk, as a power cut or ``kill -9`` would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
{setup}
STEPS = {{"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}}
WRITING = os.O_WRONLY | os.O_RDWR
left = 0

def step(event, arguments):
    global left
    if not left or event not in STEPS or not str(arguments[0]).startswith(str(folder)):
        return
    if event == "open" and not arguments[2] & WRITING:
        return
    left -= 1
    if left == 0:
        if event == "open":  # it was cut while it wrote
            os.write(os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), b"half")
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(step)
for count in range(1, 1000):
    child = os.fork()
    if child == 0:
        left = count
        {action}
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print({check}, flush=True)
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    {reset}
"""


def survey(folder: Path, setup: str, action: str, check: str, reset: str) -> list[str]:
    """What the expression ``check`` says after ``action`` was killed at each of its steps.

    Each round starts with ``reset``; the last answer is that of a whole run. A step is whatever
    makes, changes or removes something below ``folder``; a file being written is left torn.
    """
    code = CODE.format(setup=setup, action=action, check=check, reset=reset)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
