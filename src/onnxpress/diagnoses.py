"""How findings look in a terminal."""

from __future__ import annotations

from rich.console import Console

from onnxpress.screens import Result
from onnxpress.terminal import console, counted

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "info": ("·", "dim")}
"""Level of a finding → its mark and style."""

NOUNS = {"error": "error", "warning": "warning", "info": "note"}


def show_checked(result: Result, *, verbose: bool = False) -> None:
    """The findings, those alike as one (``verbose``: each by its name), and the answer.

    A fix is told once, after all that it mends; what is counted is what is shown.
    """
    out = console()
    mended: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for finding in result["findings"]:
        key = finding["level"], finding["check"], finding["fix"]
        mended.setdefault(key, {}).setdefault(finding["what"], []).append(finding["where"])
    for (level, check, fix), told in mended.items():
        mark, style = MARKS[level]
        for what, places in told.items():
            shown = places if verbose else places[:3]
            more = f" and {len(places) - len(shown)} more" if len(places) > len(shown) else ""
            out.print(f"{mark} {check}: {', '.join(shown)}{more}", style=style, markup=False)
            out.print(f"    {what}", markup=False)
        for line in fix.splitlines():
            Console(highlight=False, soft_wrap=True).print(f"    → {line}", markup=False)
    for why in dict.fromkeys(result["skipped"].values()):
        names = ", ".join(name for name, reason in result["skipped"].items() if reason == why)
        out.print(f"· not done, as {why}: {names}", style="dim", markup=False)
    counts = {
        level: sum(len(told) for (of, _, _), told in mended.items() if of == level)
        for level in MARKS
    }
    words = [counted(count, NOUNS[level]) for level, count in counts.items() if count]
    answer = ", ".join(words) or "nothing found"
    out.print(f"{result['model']}: {answer}", style="bold", markup=False)
