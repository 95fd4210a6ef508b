"""Finds plug-ins: the files of a socket's folder, and entry points of other packages.

A socket is a plural folder of onnxpress (``passes``, ``engines``, …). Each file in it that does
not begin with an underscore is one plug-in, named as the file. Another package adds one with an
entry point in the group ``onnxpress.<socket>``; built-ins have no other door. The plug-in is the
one class in the file that implements the socket's contract; in ``commands`` it is the function
of the file's name. Sockets with an ``api_version`` refuse a plug-in made for another one.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TypeVar

from onnxpress.errors import PluginError

T = TypeVar("T")

_NAMES: dict[type, str] = {}
"""Plug-in class → the name that it was found under; an entry point's need not be its module's."""

MOST_TOLD = 8
"""Names that an error tells."""

CONTRACTS: Mapping[str, str] = {
    "sources": "onnxpress.source:Source",
    "passes": "onnxpress.recipe:Pass",
    "calibrators": "onnxpress.calibrator:Calibrator",
    "engines": "onnxpress.engine:Engine",
    "providers": "onnxpress.provider:Provider",
    "tasks": "onnxpress.task:Task",
    "checks": "onnxpress.finding:Check",
    "exporters": "onnxpress.exporter:Exporter",
    "commands": "",
}


def names(socket: str) -> tuple[str, ...]:
    """The plug-ins of ``socket``, sorted; nothing is imported.

    Raises ``PluginError`` for an unknown socket and where two plug-ins have one name.
    """
    return tuple(sorted(_modules(socket)))


def get(socket: str, name: str, others: Iterable[str] = ()) -> type:
    """The plug-in class called ``name`` (in ``commands``: the function).

    ``others`` are names that would do as well where ``name`` stands: an error tells them too.
    Raises ``PluginError`` with the known names where there is none, where the file holds no
    plug-in or several, where its ``api_version`` is not the socket's, and where the plug-in of
    another package cannot be imported.
    """
    modules = _modules(socket)
    if name not in modules:
        raise _unknown(socket, name, others)
    loaded = _load(socket, name, modules[name])
    if isinstance(loaded, ModuleType):
        loaded = _plugin_in(socket, name, loaded)
    contract = _contract(socket)
    if contract is not None:
        _NAMES[_check(socket, name, loaded, contract)] = name
    return loaded  # type: ignore[return-value]  # checked above; a function in `commands`


def _unknown(socket: str, name: str, others: Iterable[str]) -> PluginError:
    """With the names that are like ``name``, or where they all are."""
    known = sorted({*_modules(socket), *others})
    near = difflib.get_close_matches(name, known) or [each for each in known if name in each]
    fix = ""
    if not near and len(known) > MOST_TOLD:
        fix = "see docs/passes.md" if socket == "passes" else "see onnxpress doctor --verbose"
    told = (near or known)[:MOST_TOLD]
    more = ", …" if fix else ""
    return PluginError(
        f"unknown {_singular(socket)} '{name}'", f"one of {', '.join(told)}{more}", fix
    )


def name_of(plugin: type) -> str:
    """The name of a plug-in class: the one that ``get`` found it under, or that of its file."""
    return _NAMES.get(plugin) or plugin.__module__.rpartition(".")[2].rstrip("_")


def create(contract: type[T], socket: str, name: str) -> T:
    """An instance of the plug-in ``name``, typed as its ``contract``."""
    plugin = get(socket, name)()
    assert isinstance(plugin, contract)
    return plugin


def _load(socket: str, name: str, target: str) -> object:
    module, _, attribute = target.partition(":")
    try:
        loaded: object = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            loaded = getattr(loaded, part)
    except (ImportError, AttributeError) as error:
        if (name, target) in _built_in(socket):
            raise
        raise PluginError(
            f"{_singular(socket)} '{name}' cannot be loaded from {target} ({error})",
            fix="upgrade or uninstall the package that brings it",
        ) from error
    return loaded


def _check(socket: str, name: str, plugin: object, contract: type) -> type:
    if not (inspect.isclass(plugin) and issubclass(plugin, contract)):
        raise PluginError(
            f"{_singular(socket)} '{name}' is {plugin!r}", f"a subclass of {contract.__name__}"
        )
    want, have = getattr(contract, "api_version", None), getattr(plugin, "api_version", None)
    if want != have:
        raise PluginError(
            f"{_singular(socket)} '{name}' was made for api_version {have}",
            f"api_version {want}",
            "upgrade the package that brings it",
        )
    return plugin


def _plugin_in(socket: str, name: str, module: ModuleType) -> object:
    contract = _contract(socket)
    if contract is None:
        found = [value for key, value in vars(module).items() if key.rstrip("_") == name]
    else:
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, contract)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("_")
        ]
    if len(found) != 1:
        raise PluginError(f"{module.__name__} holds {len(found)} {socket}", f"one, called '{name}'")
    return found[0]


def _contract(socket: str) -> type | None:
    module, _, attribute = CONTRACTS[socket].partition(":")
    if not module:
        return None
    contract = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(contract)
    return contract


def _modules(socket: str) -> dict[str, str]:
    """Plug-in name → ``module`` or ``module:attribute``."""
    if socket not in CONTRACTS:
        raise PluginError(f"unknown socket '{socket}'", f"one of {', '.join(CONTRACTS)}")
    found = dict(_built_in(socket))
    for name, target in _added(socket, tuple(sys.path)):
        if found.get(name, target) != target:
            raise PluginError(
                f"two {socket} are called '{name}': {found[name]} and {target}",
                "one",
                "uninstall or rename one",
            )
        found[name] = target
    return found


@functools.cache
def _added(socket: str, path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Those of other packages, as ``_modules``; ``path`` is where Python looks for packages."""
    points = importlib.metadata.entry_points(group=f"onnxpress.{socket}")
    return tuple((point.name, point.value) for point in points)


@functools.cache
def _built_in(socket: str) -> tuple[tuple[str, str], ...]:
    package = f"onnxpress.{socket}"
    spec = importlib.util.find_spec(package)
    paths = list(spec.submodule_search_locations or ()) if spec else []
    return tuple(
        (info.name.rstrip("_"), f"{package}.{info.name}")
        for info in pkgutil.iter_modules(paths)
        if not info.name.startswith("_")
    )


def _singular(socket: str) -> str:
    return "pass" if socket == "passes" else socket.removesuffix("s")
