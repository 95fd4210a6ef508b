"""How benchmarks run the tools that they compare with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("peers")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit('no such pattern')", "no such pattern"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 11)", "crashed with signal 11"),
        ("import time; time.sleep(60)", "took more than 1 s"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_a_peer_that_fails_is_a_failure(
    peers: ModuleType, code: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(peers, "LIMIT_S", 1)
    assert peers.run([sys.executable, "-c", code]) == peers.Ran(why=why)
    assert peers.run([sys.executable, "-c", "print('a'); print('b')"]) == peers.Ran("b")
