"""The contract of ONNX Runtime's execution providers: what they run on, and their typed options."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from onnxpress import registry
from onnxpress.errors import InputError, nearest

Kind = Literal["switch", "integer", "bytes", "text", "path", "choice"]
SWITCHES = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SUFFIX = "ExecutionProvider"


@dataclass(frozen=True)
class Option:
    """One option of a provider: what it does, its type, and its default as the provider has it.

    ``bytes`` may be given with a unit: ``2GB``, ``512MiB``. ``choices`` are those of ``choice``.
    ``writes`` tells that files are written or read with it, as a ``path`` always is: bundles,
    which others may have made, have no such options.
    """

    what: str
    kind: Kind = "text"
    default: str = ""
    choices: tuple[str, ...] = ()
    writes: bool = False

    @property
    def expected(self) -> str:
        """What a value must look like, for people."""
        return {
            "switch": "true or false",
            "integer": "a whole number",
            "bytes": "a number of bytes, such as 2GB or 512MiB",
            "choice": f"one of {', '.join(self.choices)}",
        }.get(self.kind, "a text that is not empty")

    def read(self, text: str, switch: tuple[str, str]) -> str | None:
        """``text`` as ONNX Runtime takes it, with ``switch`` its words for off and on.

        None where it is no value of this type.
        """
        text = text.strip()
        if self.kind == "switch":
            known = SWITCHES.get(text.lower())
            return None if known is None else switch[known]
        if self.kind == "integer":
            return text if re.fullmatch(r"-?\d+", text) else None
        if self.kind == "bytes":
            found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]i?B)?", text, re.IGNORECASE)
            return None if found is None else str(_bytes(found[1], found[2] or ""))
        if self.kind == "choice":
            return next((one for one in self.choices if one.lower() == text.lower()), None)
        return text or None


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * UNITS[unit.upper()])


class Provider:
    """One execution provider. All is said by class variables; the docstring says what it is.

    ``title`` is ONNX Runtime's name for it, ``aliases`` what people call it besides. ``package``
    is the Python package that has it (empty: none on PyPI). ``options`` are None where they are
    not known here: then any goes to the provider as it is.
    ``switch`` are its words for off and on. ``source`` is where all of this was read.
    """

    api_version: ClassVar[int] = 1
    title: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""
    hardware: ClassVar[str]
    needs: ClassVar[str]
    use_when: ClassVar[str]
    limits: ClassVar[str]
    source: ClassVar[str]
    options: ClassVar[Mapping[str, Option] | None] = None
    switch: ClassVar[tuple[str, str]] = ("0", "1")

    def checked(self, given: Mapping[str, str]) -> dict[str, str]:
        """``given`` as ONNX Runtime takes it.

        Raises ``InputError`` for an option that the provider does not have, with the names that
        are like it, and for a value that is not of its type.
        """
        if self.options is None:
            return dict(given)
        taken = {}
        for key, text in given.items():
            option = self.options.get(key)
            if option is None:
                found = f"{self.title} has no option '{key}'"
                raise InputError(found, _expected(key, self.options))
            value = option.read(text, self.switch)
            if value is None:
                raise InputError(f"{self.title} option {key}={text}", option.expected)
            taken[key] = value
        return taken


def provider_of(name: str) -> Provider:
    """By ONNX Runtime's name, the same without ``ExecutionProvider``, or an alias; in any case.

    Raises ``InputError`` with the nearest names for an unknown one.
    """
    called: dict[str, Provider] = {}
    titles = []
    for each in registry.names("providers"):
        provider = registry.create(Provider, "providers", each)
        titles.append(provider.title)
        for alias in (provider.title, provider.title.removesuffix(SUFFIX), *provider.aliases, each):
            called.setdefault(alias.lower(), provider)
    found = called.get(name.strip().lower())
    if found is not None:
        return found
    near = [called[alias].title for alias in nearest(name.strip(), called, 4)]
    told = ", ".join(dict.fromkeys(near or titles))
    raise InputError(f"unknown provider '{name}'", f"one such as {told}")


def parse_provider(text: str) -> tuple[str, dict[str, str]]:
    """``NAME`` or ``NAME:key=value,…`` as ONNX Runtime's name and checked options.

    A value may hold commas: only one before ``key=`` begins another option.
    """
    name, _, rest = text.partition(":")
    provider = provider_of(name)
    options = {}
    for pair in re.split(r",(?=\s*\w+=)", rest) if rest.strip() else ():
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"--provider {text}", "NAME or NAME:key=value,…")
        options[key.strip()] = value.strip()
    return provider.title, provider.checked(options)


def _expected(key: str, known: Collection[str]) -> str:
    """What may stand in the place of ``key``."""
    told = ", ".join(nearest(key, known) or sorted(known))
    return f"one of {told}" if known else "no options: it has none"
