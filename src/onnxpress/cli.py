"""The command line: finds the commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn, cast

import typer

from onnxpress import __version__, registry
from onnxpress.errors import EXTRAS, OnnxpressError

USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What typer raises for words that do not fit: missing, unknown or wrong ones."""

LEAVING = 0
"""Stands among the signals that came for the end of listening to them."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

HELP = "Press a trained model into the fastest faithful form for this machine, and prove it."
FIRST = ("press", "run", "demo", "doctor")
"""The commands that a newcomer needs come first in the help."""


def app() -> typer.Typer:
    """A typer application with every command of the registry."""
    application = typer.Typer(
        name="onnxpress",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback(invoke_without_command=True)(_options)
    names = registry.names("commands")
    for name in sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else 99, name)):
        application.command(name.replace("_", "-"))(registry.get("commands", name))
    return application


def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        print(__version__)  # noqa: T201  # the answer to --version
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 a bug, 2 the user can mend it, 3 the answer is no."""
    # PyTorch's C++ code writes to descriptor 2, past Python's streams; read when it is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    words = sys.argv[1:] if arguments is None else arguments
    interrupts: list[int] = []
    if threading.current_thread() is threading.main_thread():
        _listen(interrupts)
    try:
        code = app()(args=words or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except OnnxpressError as error:
        # A library's import that is interrupted raises what it likes, and that is told as a line.
        _interrupted(interrupts) if interrupts else _fail(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"{error.name} is not installed; run: pip install 'onnxpress[{extra}]'")
    except USAGE_ERROR as error:
        told = getattr(error, "format_message", error.__str__)()
        _fail(" ".join(told.split()), "see --help")
    except (typer.Abort, KeyboardInterrupt):
        _interrupted(interrupts)
    except BrokenPipeError:
        _stop_writing()
    except SystemExit as stopped:
        # What rich and typer make of a closed pipe.
        if not isinstance(stopped.__context__, BrokenPipeError):
            raise
        _stop_writing()
    if code == INTERRUPTED:  # so newer versions of typer say it
        _interrupted(interrupts)
    sys.exit(code if isinstance(code, int) else 0)


def _listen(interrupts: list[int]) -> None:
    """Note each SIGINT and SIGTERM and raise KeyboardInterrupt, so that both clean up.

    Until the answer is said: then there is nothing left to stop.
    """

    def note(number: int, _: object) -> None:
        if LEAVING not in interrupts:
            interrupts.append(number)
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, note)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a script's background
        signal.signal(signal.SIGINT, note)


def _interrupted(interrupts: list[int]) -> NoReturn:
    interrupts.append(LEAVING)
    sys.stderr.write("interrupted\n")
    # Python under -m ends itself with SIGINT, not with our exit code, where the interrupt met an
    # exec() of text (as dataclasses use), handled or not. Any later exec() makes it forget that.
    exec("")
    sys.exit(INTERRUPTED)


def _stop_writing() -> NoReturn:
    """Whoever reads our output has seen enough; Python shall not try to write the rest at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(0)


def _fail(line: str, fix: str = "") -> NoReturn:
    sys.stderr.write(f"error: {line.rstrip('.')}{'; ' + fix if fix else ''}\n")
    sys.exit(2)
