"""Writes the part of providers.md that the providers' classes say: ``make docs``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from onnxpress import registry
from onnxpress.provider import Provider

PAGE = Path(__file__).with_name("providers.md")
BEGIN = "<!-- Made by `make docs` from the providers' classes, down to the end. -->"


def page(text: str) -> str:
    """``text`` with what follows the mark made anew."""
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n\n" + "\n".join(sections())


def sections() -> Iterator[str]:
    """Those with options that are known first, in the order of their names."""
    providers = [
        registry.create(Provider, "providers", name) for name in registry.names("providers")
    ]
    for provider in sorted(providers, key=lambda each: each.options is None):
        yield from described(provider)


def described(provider: Provider) -> Iterator[str]:
    """Heading, the facts and a table of the options."""
    yield f"## {provider.title}\n"
    yield f"{inspect.getdoc(type(provider))}\n"
    package = f"`{provider.package}`" if provider.package else "none on PyPI"
    facts = {
        "Hardware": provider.hardware,
        "Needs": provider.needs,
        "Package": package,
        "Use it when": provider.use_when,
        "Limits": provider.limits,
        "Source": f"<{provider.source}>",
    }
    yield from (f"- **{name}:** {text}" for name, text in facts.items())
    yield ""
    if provider.options is None:
        yield "Its options are not checked here: they go to it as they are.\n"
    elif provider.options:
        yield "| option | what | value | default |\n|---|---|---|---|"
        for name, option in provider.options.items():
            default = f"`{option.default}`" if option.default else ""
            value = {"text": "a text", "path": "a path"}.get(option.kind, option.expected)
            yield f"| `{name}` | {option.what} | {value} | {default} |"
        yield ""
    else:
        yield "It has no options.\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
