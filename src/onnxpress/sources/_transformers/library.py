"""The transformers library, imported such that it works here and keeps quiet."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from onnxpress.errors import MissingExtra, SourceError


def library(name: str = "transformers", extra: str = "transformers") -> ModuleType:
    """The package ``name``, which is transformers or stands on it.

    transformers imports torchvision where that is installed, and a torchvision that was built for
    another PyTorch cannot be imported. Then transformers is told that there is none, and works.
    Raises ``MissingExtra`` where a package is not installed, ``SourceError`` where it is broken.
    """
    purpose = "opens models of the Hugging Face library"
    for package in ("torch", "transformers", name):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of(package, extra, purpose)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            _without_broken_torchvision()
            return importlib.import_module(name)
    except Exception as error:
        while isinstance(error.__cause__, Exception):
            error = error.__cause__
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(
            f"{name} cannot be imported ({text})",
            f"a {name} that fits the installed torch",
            f"run: pip install --force-reinstall 'onnxpress[{extra}]'",
        ) from error


def _without_broken_torchvision() -> None:
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError):
        # Python's own sign for "not installed"; the library asks once and remembers the answer.
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # importlib documents None
        try:
            told = importlib.import_module("transformers.utils.import_utils")
            told.is_torchvision_available()
            told.is_torchvision_v2_available()
        finally:
            del sys.modules["torchvision"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library reports, warns and draws progress bars; what matters is raised or returned."""
    logging = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
