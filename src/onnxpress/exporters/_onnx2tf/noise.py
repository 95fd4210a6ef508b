"""Notices that C++ code writes to descriptor 2, whatever its level of logging is set to."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def kept_away() -> Iterator[None]:
    """Send descriptor 2 and Python's warnings nowhere; what is raised comes through."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if LEVEL not in os.environ:
            os.environ[LEVEL] = "3"  # read once, when TensorFlow first logs
            stack.callback(os.environ.pop, LEVEL, None)
        try:
            sys.stderr.flush()
            kept = os.dup(2)
        except (OSError, AttributeError):  # a process without stderr
            kept = -1
        if kept >= 0:
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 2)
            nowhere = stack.enter_context(Path(os.devnull).open("wb"))
            os.dup2(nowhere.fileno(), 2)
        yield
