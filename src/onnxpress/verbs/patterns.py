"""Which nodes a person means: by name, operator type or module of the source, with wildcards."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence

from onnxpress.errors import InputError
from onnxpress.model import Model
from onnxpress.modules import module_of
from onnxpress.values import name_of


def matching(model: Model, patterns: Sequence[str], flag: str) -> tuple[str, ...]:
    """The names of the nodes of ``model`` that one of ``patterns`` matches, in graph order.

    A pattern is a node's name, an operator type (``Conv``) or a module (``encoder.layer.3``, with
    all that is in it); ``*``, ``?`` and ``[abc]`` are wildcards. Raises ``InputError`` naming
    ``flag`` for a pattern that matches nothing.
    """
    chosen: dict[str, None] = {}
    nodes = list(model.ir.graph)
    words = {node: (name_of(node), node.op_type, *_modules(module_of(node))) for node in nodes}
    for pattern in patterns:
        found = [
            name_of(node)
            for node in nodes
            if any(fnmatch.fnmatchcase(word, pattern) for word in words[node])
        ]
        if not found:
            known = dict.fromkeys(word for node in nodes for word in words[node])
            near = difflib.get_close_matches(pattern, known, n=4, cutoff=0.4)
            told = ", ".join(near) or ", ".join(dict.fromkeys(node.op_type for node in nodes))
            raise InputError(
                f"{flag} {pattern} matches no node",
                "the name of a node, an operator type or a module, with wildcards",
                f"there is {told}",
            )
        chosen.update(dict.fromkeys(found))
    order = {name_of(node): index for index, node in enumerate(nodes)}
    return tuple(sorted(chosen, key=order.__getitem__))


def _modules(path: str) -> list[str]:
    """``a.b.c`` and all that it is in: ``a.b`` and ``a``."""
    parts = path.split(".") if path else []
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
