"""What a command shows while it works."""

from __future__ import annotations

import contextlib
import io
import sys
import time

import pytest

from onnxpress import terminal


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_shows_what_takes_long_and_leaves_streams_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen, stdout = Screen(), sys.stdout
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.progress(quiet=False) as report:
        report("converting", 0, 0)  # the only word of it, before the bar is there
        with contextlib.redirect_stderr(io.StringIO()):  # as exporters do
            time.sleep(0.5)
        assert "converting" in screen.getvalue()
        assert sys.stderr is screen
    assert sys.stdout is stdout


def test_what_is_short_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.progress(quiet=False) as report:
        report("converting", 0, 0)
    assert "converting" not in screen.getvalue()


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (2e6, "2.00 MB")]
)
def test_sizes_have_a_unit_that_fits(size: int, told: str) -> None:
    assert terminal.in_bytes(size) == told


def test_one_is_no_plural() -> None:
    assert [terminal.counted(count, "node") for count in (0, 1, 2000)] == [
        "0 nodes", "1 node", "2,000 nodes",
    ]  # fmt: skip
