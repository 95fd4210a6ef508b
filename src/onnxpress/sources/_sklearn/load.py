"""Files of scikit-learn models: .skops, which runs no code, and pickles, which may run any."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import warnings
from pathlib import Path

import numpy as np

from onnxpress.errors import InputError, MissingExtra, SourceError

SHOWN = 5


def load(path: Path, trust: bool) -> object:
    """The object in ``path``.

    Raises ``InputError`` for a missing file and for a pickle without ``trust``, of which no byte
    is read then; ``SourceError`` for a broken file and for types that nobody vouches for.
    """
    if not path.is_file():
        wrong = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {wrong}", "a .skops, .joblib or .pkl file")
    pickled = path.suffix != ".skops"
    if pickled and not trust:
        raise InputError(
            f"{path} is a pickle, which runs any code that is in it when it is loaded",
            "a .skops file",
            "--trust loads it all the same: only for files that you or people you trust made",
        )
    if not pickled and importlib.util.find_spec("skops") is None:
        raise MissingExtra.of("skops", "sklearn", "reads .skops files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other versions; the proof decides
            return _pickled(path) if pickled else _skops(path, trust)
    except SourceError:
        raise
    except Exception as error:  # readers raise anything on a broken file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(
            f"{path} cannot be read ({reason})", "a whole file of a fitted scikit-learn model"
        ) from error


def _pickled(path: Path) -> object:
    import joblib

    return joblib.load(path)


def _skops(path: Path, trust: bool) -> object:
    import skops.io

    unknown = skops.io.get_untrusted_types(file=path)
    foreign = [name for name in unknown if not (_is_a_class_of_sklearn(name) or _is_a_dtype(name))]
    if foreign and not trust:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise SourceError(
            f"{path} holds {', '.join(foreign[:SHOWN])}{more}",
            "types of scikit-learn and those that skops trusts",
            "--trust loads them too: only for files that you or people you trust made",
        )
    return skops.io.load(path, trusted=unknown)


def _is_a_dtype(name: str) -> bool:
    """``numpy.dtype`` or a kind of it, which ``SimpleImputer`` and others keep: no code runs."""
    module, _, attribute = name.rpartition(".")
    found = {"numpy": np, "numpy.dtypes": np.dtypes}.get(module)
    kind = getattr(found, attribute, None)
    return inspect.isclass(kind) and issubclass(kind, np.dtype)


def _is_a_class_of_sklearn(name: str) -> bool:
    """A class, not a function: making an object of it calls nothing that the file chooses."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "sklearn":
        return False
    found = None
    with contextlib.suppress(ImportError):
        found = getattr(importlib.import_module(module), attribute, None)
    return inspect.isclass(found) and found.__module__.partition(".")[0] == "sklearn"
