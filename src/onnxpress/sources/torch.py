"""PyTorch: a factory in a file or package, a saved model, or an nn.Module."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxpress.errors import InputError, MissingExtra
from onnxpress.source import OpenOptions, Origin, Source

SUFFIXES = (".pt2", ".ts", ".torchscript", ".pt", ".pth")
OWN_SOURCES = frozenset({"PreTrainedModel", "SentenceTransformer"})
"""Modules that other sources know better: the inputs, names and lengths of their library."""


class Torch(Source):
    """``torch:FILE.py:factory``, ``torch:package.module:factory``, a file, or an ``nn.Module``.

    The factory is called without arguments and returns a module, or a pair of the module and its
    example inputs: a tensor, a tuple of positional or a dict of keyword arguments, batch first.
    A live module may come as such a pair too. Files that hold a whole model are read: ``.pt2``,
    TorchScript and, trusted, a pickle.
    """

    def accepts(self, ref: object) -> bool:
        if str(ref).endswith((*SUFFIXES, ".py")) and isinstance(ref, str | Path):
            return True
        if isinstance(ref, str):
            file, colon, name = ref.rpartition(":")
            return bool(colon) and file.endswith(".py") and name.isidentifier()
        torch = sys.modules.get("torch")  # whoever holds a module has imported it
        if torch is None:
            return False
        if isinstance(ref, tuple) and len(ref) == 2:  # not a model with its tokenizer
            module, example = ref
            holds = (torch.Tensor, np.ndarray, tuple, list, Mapping)
            return isinstance(module, torch.nn.Module) and isinstance(example, holds)
        own = OWN_SOURCES & {base.__name__ for base in type(ref).__mro__}
        return isinstance(ref, torch.nn.Module) and not own

    def open(self, ref: object, options: OpenOptions) -> Origin:
        if importlib.util.find_spec("torch") is None:
            raise MissingExtra.of("torch", "torch", "opens PyTorch models")
        if str(ref).endswith(".py"):
            raise InputError(f"{ref} names no factory", f"torch:{ref}:FUNCTION{_functions(ref)}")
        from onnxpress.sources._torch.origin import open_origin

        return open_origin(ref, options)


def _functions(path: object) -> str:
    """Those of the file, which is read and not run."""
    try:
        tree = ast.parse(Path(str(path)).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return f" with one of {', '.join(names)}" if names else ""
