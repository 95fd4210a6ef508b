"""Plug-ins with their fields as text: ``percentile(percentile=99.9)``, and that text read again."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable
from typing import TypeVar

from onnxpress import registry
from onnxpress.errors import InputError

T = TypeVar("T")


def read(contract: type[T], socket: str, text: str, known: Iterable[str] = ()) -> T:
    """The plug-in of ``socket``, a frozen dataclass, that ``text`` spells.

    ``known`` are names that stand for something else there: they are told where none fits.
    Raises ``PluginError`` (unknown plug-in) or ``InputError``.
    """
    found = re.fullmatch(r"([\w-]+)(?:\((.*)\))?", text.strip(), re.DOTALL)
    if not found:
        raise InputError(f"'{text}' names none of the {socket}", "NAME or NAME(key=value, …)")
    plugin = registry.get(socket, found[1].replace("-", "_"), known)
    assert dataclasses.is_dataclass(plugin)
    fields = {f.name: f.default for f in dataclasses.fields(plugin)}
    values: dict[str, object] = {}
    for pair in split(found[2] or ""):
        key, equals, value = (piece.strip() for piece in pair.partition("="))
        if not equals or key not in fields:
            keys = ", ".join(sorted(fields)) or "no fields"
            raise InputError(f"'{text}' sets '{pair}'", f"key=value with key in {keys}")
        values[key] = _value(text, pair, value, fields[key])
    made = plugin(**values)
    assert isinstance(made, contract)
    return made


def spelled(plugin: object) -> str:
    """What ``read`` makes ``plugin`` of: its fields where they differ from their defaults."""
    assert dataclasses.is_dataclass(plugin)
    name = registry.name_of(type(plugin))
    keys = [
        f"{f.name}={_text(getattr(plugin, f.name))}"
        for f in dataclasses.fields(plugin)
        if getattr(plugin, f.name) != f.default
    ]
    return f"{name}({', '.join(keys)})" if keys else name


def split(text: str) -> list[str]:
    """The parts of ``text`` between the commas that are outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _value(step: str, pair: str, text: str, default: object) -> object:
    """``text`` as the type of the field's default, where there is one."""
    value = _literal(text)
    if isinstance(default, str) and not isinstance(value, str):
        return text
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, int | float | str | tuple) and type(value) is not type(default):
        kind = type(default).__name__
        raise InputError(f"'{step}' sets '{pair}'", f"{kind}, such as {default!r}")
    return value


def _text(value: object) -> str:
    """``value`` as ``_value`` reads it again: quoted where the bare text would be misread."""
    bare = str(value)
    plain = not isinstance(value, str) or re.fullmatch(r"[\w./*+-]+", value)
    return bare if plain and _literal(bare) == value else repr(value)


def _literal(value: str) -> object:
    try:
        literal: object = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return literal
