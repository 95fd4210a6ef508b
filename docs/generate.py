"""Writes the part of passes.md that the passes' docstrings say: ``make docs``.

What stands between the two marks is made anew; the rest of the page is written by hand.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from onnxpress import registry
from onnxpress.recipe import Pass, Recipe
from onnxpress.verbs.optimize import RECIPES

PAGE = Path(__file__).with_name("passes.md")
BEGIN = "<!-- Made by `make docs` from the passes' docstrings, down to the next mark. -->"
END = "<!-- Written by hand from here on. -->"

Group = tuple[str, str, list[type[Pass]]]
"""Title, what holds for all, and the passes."""


def page(text: str) -> str:
    """``text``, a page with both marks, with what is between them made anew."""
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{before}{BEGIN}\n\n{sections()}\n{END}{after}"


def sections() -> str:
    """Every built-in pass once: by target, in the recipe's order, then the others by name."""
    parts = []
    for title, text, passes in groups(built_in(), RECIPES):
        parts += [f"## {title}\n", f"{text}\n", *map(described, passes)]
    return "\n".join(parts)


def built_in() -> dict[str, type[Pass]]:
    """Name → class of the passes that come with onnxpress."""
    found = {}
    for name in registry.names("passes"):
        kind = registry.get("passes", name)
        if issubclass(kind, Pass) and kind.__module__.startswith("onnxpress."):
            found[name] = kind
    return found


def groups(passes: Mapping[str, type[Pass]], recipes: Mapping[str, str]) -> Iterator[Group]:
    """Each pass under the first target that has it, else under what it is for."""
    left = dict(passes)
    targets = []
    for target, text in recipes.items():
        names = dict.fromkeys(step.name for step in Recipe.parse(text).passes)
        before = " and ".join(f"`{name}`" for name in targets)
        told = f"and all of {before}" if targets else "in this order, until nothing changes"
        yield (
            f"`--target {target}`",
            f"`--recipe default` is these, {told}.",
            [left.pop(name) for name in names if name in left],
        )
        targets.append(target)
    lossy = {name: kind for name, kind in left.items() if kind.rtol is None}
    yield (
        "Quantisation",
        "Outputs move, so their quality is measured: `onnxpress quantize` and `press` use these.",
        list(lossy.values()),
    )
    yield "On request", "By name in `--recipe`.", ordered(left, lossy)


def ordered(left: Mapping[str, type[Pass]], without: Iterable[str]) -> list[type[Pass]]:
    """Those of ``left`` that are not in ``without``, by name."""
    return [left[name] for name in sorted(set(left) - set(without))]


def described(kind: type[Pass]) -> str:
    """One pass: its name, what its file and its class say, its fields."""
    text = [f"### {kind().name}", inspect.getdoc(inspect.getmodule(kind)), inspect.getdoc(kind)]
    fields = [f"`{field.name}={field.default!r}`" for field in dataclasses.fields(kind)]
    if fields:
        text.append(f"Fields: {', '.join(fields)}.")
    return "\n\n".join(str(part) for part in text) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
