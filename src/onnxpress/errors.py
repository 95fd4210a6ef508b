"""Every error that a user can mend, under one tree.

    OnnxpressError            ends a command with one line and exit code 2
    ├── InputError            a file, flag or value that does not fit
    │   ├── ModelError        not ONNX, truncated, unsafe external data
    │   ├── SamplesError      samples that are missing, empty or do not fit the model
    │   └── BundleError       a folder that is no bundle, or one that cannot open here
    ├── SourceError           the user's own model failed to load or to convert
    ├── EngineError           an engine refused a model, a setting or a feed
    ├── PluginError           an unknown plug-in, a name clash, a wrong API version
    └── MissingExtra          an optional dependency is not installed

Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

EXTRAS = {
    "onnx": "press",
    "onnx_ir": "press",
    "onnxscript": "press",
    "google": "press",
    "jinja2": "press",
    "filelock": "press",
    "torch": "torch",
    "safetensors": "torch",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "tokenizers": "text",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "tf2onnx": "tensorflow",
    "h5py": "tensorflow",
    "ai_edge_litert": "tflite",
    "psutil": "tflite",
    "sng4onnx": "tflite",
    "onnxruntime": "onnxruntime",
    "onnxruntime_extensions": "extensions",
    "openvino": "openvino",
    "pyarrow": "tables",
    "sklearn": "sklearn",
    "skl2onnx": "sklearn",
    "skops": "sklearn",
    "pandas": "sklearn",
    "joblib": "sklearn",
    "threadpoolctl": "sklearn",
    "pycocotools": "detection",
    "netron": "view",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}
"""Top-level module → the extra of onnxpress that brings it."""


class OnnxpressError(Exception):
    """What was found, what was expected and what to do, in one line.

    ``found`` is a clause without a full stop; ``expected`` and ``fix`` may be empty.
    """

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        line = found
        if expected:
            line += f"; expected {expected}"
        if fix:
            line += f"; {fix}"
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple[type[OnnxpressError], tuple[str, str, str]]:
        """Keep the three parts when the error crosses a process boundary."""
        return type(self), (self.found, self.expected, self.fix)


class InputError(OnnxpressError):
    """A file, flag or value that does not fit."""


class ModelError(InputError):
    """A model file that cannot be read, or must not be."""


class SamplesError(InputError):
    """Samples that are missing, empty, too few, or do not fit the model."""


class BundleError(InputError):
    """A folder that is not a bundle, or a bundle that cannot open on this machine."""


class SourceError(OnnxpressError):
    """The user's own model failed to load, to run or to convert."""


class EngineError(OnnxpressError):
    """An engine refused a model, a setting or a feed."""


class PluginError(OnnxpressError):
    """An unknown plug-in name, two plug-ins of one name, or a wrong API version."""


@contextmanager
def writing(path: object) -> Iterator[None]:
    """What the system refuses while ``path`` is written becomes an ``InputError``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror or error})", "a folder with room to write"
        ) from error


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Those of ``known`` that are like ``name``, then those that hold it, in any case."""
    called = {each.lower(): each for each in sorted(known)}
    near = difflib.get_close_matches(name.lower(), called, n=count, cutoff=0.5)
    near += [each for each in called if each not in near and name.lower() in each]
    return [called[each] for each in near]


class MissingExtra(OnnxpressError):
    """An optional dependency is missing; says the command that installs it."""

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtra:
        """``package`` is needed for ``purpose`` and comes with ``onnxpress[extra]``."""
        return cls(
            f"{package} is not installed",
            f"{package} {purpose}",
            f"run: pip install 'onnxpress[{extra}]'",
        )


def first_line(error: Exception) -> str:
    """What ``error`` says, in one line; of the one that began it, where others wrap it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
