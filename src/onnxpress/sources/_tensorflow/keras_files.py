"""What a Keras file says before anything in it is loaded: is it whole, and would it run code?"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxpress.errors import InputError, SourceError

CONFIG = "config.json"


def check(path: Path, trust: bool) -> None:
    """Raise ``InputError`` or ``SourceError`` unless ``path`` is a model file that may be loaded.

    A Lambda layer is Python code in the file; loading it runs it, hence only with ``trust``.
    """
    if not path.is_file():
        raise InputError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            "a .keras or .h5 file of a whole model",
        )
    code = [name for name in _code(_config(path)) if not trust]
    if code:
        raise InputError(
            f"{path} holds Python code in {' and '.join(dict.fromkeys(code))}",
            "a file without code",
            "loading would run it: give --trust if you trust who made it",
        )


def _config(path: Path) -> Any:
    """The architecture as JSON, from either format."""
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(CONFIG))
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"{path} cannot be read as a Keras model ({line})", "a whole .keras or .h5 file"
        ) from error
    if text is None:
        raise SourceError(
            f"{path} holds weights alone", "a whole model", "save it with model.save(…)"
        )
    return json.loads(text)


def _code(config: Any, layer: str = "") -> Iterator[str]:
    """The layers that are, or hold, Python code."""
    if isinstance(config, dict):
        kind, inner = config.get("class_name"), config.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            layer = f"the layer '{inner['name']}'"
        if kind == "Lambda":
            yield layer.replace("the layer", "the Lambda layer")
        elif kind == "__lambda__":
            yield layer or "a lambda"
        else:
            for value in config.values():
                yield from _code(value, layer)
    elif isinstance(config, list):
        for value in config:
            yield from _code(value, layer)
