"""TensorFlow and Keras, imported without their noise; their threads; what their errors say."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from onnxpress.errors import InputError, OnnxpressError, SourceError

BACKEND = "tensorflow"


def tensorflow() -> ModuleType:
    """TensorFlow, imported quietly."""
    return _imported("tensorflow")


def keras() -> ModuleType:
    """Keras on TensorFlow. Raises ``InputError`` where this process runs it on something else."""
    tensorflow()
    module = _imported("keras")
    backend = module.backend.backend()
    if backend != BACKEND:
        raise InputError(
            f"Keras runs on {backend} here", f"Keras on {BACKEND}", f"set KERAS_BACKEND={BACKEND}"
        )
    return module


def use_threads(threads: int) -> None:
    """Have operators run on so many threads, where TensorFlow has not started any yet.

    Once it has computed something in this process their number cannot change; it then stays.
    """
    threading = tensorflow().config.threading
    with contextlib.suppress(RuntimeError):  # raised once TensorFlow has started its threads
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the frameworks warn and log at length; what they raise is told."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl", "keras")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def told(what: str, expected: str) -> Iterator[None]:
    """Whatever a framework or a user's layer raises becomes one line that says ``what`` failed."""
    try:
        with quiet():
            yield
    except OnnxpressError:
        raise
    except Exception as error:
        raise SourceError(f"{what} ({reason(error)})", expected) from error


def reason(error: BaseException) -> str:
    """The error's type and the one line of its text that says most."""
    text = str(error)
    # Keras wraps what a layer raised: the cause is in bold below "Exception encountered".
    wrapped = re.search(r"Exception encountered when calling (.+?)\.\s+\x1b\[1m(.+?)\x1b\[0m",
                        text, re.DOTALL)  # fmt: skip
    where = f"in {wrapped.group(1)}: " if wrapped else ""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", wrapped.group(2) if wrapped else text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # Where in the user's code the node was made comes first, what is wrong before the node.
        end = next((i for i, line in enumerate(lines) if line.startswith("[[")), len(lines))
        lines = lines[end - 1 : end]
    # AutoGraph quotes the user's code first and ends with the error.
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    line = (raised or lines or ["no message"])[0]
    first_sentence = line.partition(". ")[0]
    return f"{where}{type(error).__name__}: {first_sentence}"[:300]


def _imported(name: str) -> ModuleType:
    """``name``, imported with its notices sent nowhere, whether Python's or its libraries'."""
    if name in sys.modules:
        return importlib.import_module(name)
    unset = [
        (key, value)
        for key, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("KERAS_BACKEND", BACKEND))
        if key not in os.environ
    ]
    os.environ.update(unset)
    try:
        with quiet(), _stderr_closed():
            return importlib.import_module(name)
    except ImportError as error:
        raise SourceError(
            f"{name} does not import ({reason(error)})", "a whole installation",
            "run: pip install --force-reinstall 'onnxpress[tensorflow]'",
        ) from error  # fmt: skip
    finally:
        for key, _ in unset:
            os.environ.pop(key, None)


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Send descriptor 2 nowhere: TensorFlow's C++ code writes there before it reads its level."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError):  # a process without stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
