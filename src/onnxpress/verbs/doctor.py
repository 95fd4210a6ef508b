"""What this machine and this installation offer, and what is missing."""

from __future__ import annotations

import importlib.util

from onnxpress import registry
from onnxpress.engine import Engine
from onnxpress.errors import EXTRAS
from onnxpress.machine import this_machine
from onnxpress.verbs.environment import versions


def doctor() -> dict[str, object]:
    """Engines with their providers, CPU facts, threads, versions and what to install."""
    machine = this_machine()
    engines: dict[str, dict[str, object]] = {}
    providers: list[str] = []
    for name in registry.names("engines"):
        if name == "null":
            continue
        state = registry.create(Engine, "engines", name).available()
        engines[name] = {
            "available": state.ok,
            "version": state.version,
            "providers": list(state.providers),
            "reason": state.reason,
        }
        providers += [f"{name}: {provider}" for provider in state.providers]
    missing = [
        {"package": package, "fix": f"pip install 'onnxpress[{extra}]'"}
        for package, extra in EXTRAS.items()
        if package != "google" and importlib.util.find_spec(package) is None
    ]
    return {
        "engines": engines,
        "providers": providers,
        "cpu": machine.to_dict(),
        "threads": machine.threads,
        "versions": versions(),
        "plugins": {socket: list(registry.names(socket)) for socket in registry.CONTRACTS},
        "missing": missing,
    }
