"""The user's own code: factories, and what they raise."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType

from onnxpress.errors import InputError, OnnxpressError, SourceError


def factory_of(ref: str) -> tuple[Callable[[], object], str]:
    """The callable that ``FILE.py:name`` or ``package.module:name`` names, and its file's text."""
    where, colon, name = ref.rpartition(":")
    if not colon:
        raise InputError(f"torch:{ref}", "torch:FILE.py:FACTORY or torch:package.module:FACTORY")
    if where.endswith(".py"):
        module = _module_of(Path(where))
    else:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        with user_code(f"import {where}"):
            module = importlib.import_module(where)
    found = getattr(module, name, None)
    if not callable(found):
        known = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]
        raise SourceError(
            f"{where} has no factory '{name}'", f"one of {', '.join(known) or 'its functions'}"
        )
    with contextlib.suppress(OSError, TypeError):
        return found, inspect.getsource(module)
    return found, ""


def _module_of(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path} does not exist", "a Python file")
    spec = importlib.util.spec_from_file_location(f"onnxpress_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(path.resolve().parent) not in sys.path:
        sys.path.insert(0, str(path.resolve().parent))
    with user_code(str(path)):
        spec.loader.exec_module(module)
    return module


class user_code(contextlib.AbstractContextManager["user_code"]):  # noqa: N801  # it reads as a verb
    """An exception of the user's own code becomes one line that names where it came from.

    A class, since every call of a model that is measured passes through one: a generator takes
    microseconds.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception) or isinstance(error, OnnxpressError):
            return
        last = inspect.getinnerframes(trace)[-1] if trace else None
        where = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
        text = (str(error).strip() or "no message").splitlines()[0]
        raise SourceError(
            f"{self._what} raised {type(error).__name__}: {text}{where}", "a model that runs"
        ) from error


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(type(item).__name__ for item in value)})"
    return "None" if value is None else f"a {type(value).__name__}"
