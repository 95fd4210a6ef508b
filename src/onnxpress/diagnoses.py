"""How findings look in a terminal."""

from __future__ import annotations

from rich.console import Console

from onnxpress.screens import Result
from onnxpress.terminal import console

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "info": ("·", "dim")}
"""Level of a finding → its mark and style."""


def show_checked(result: Result, *, verbose: bool = False) -> None:
    """The findings, those alike as one (``verbose``: each by its name), and the answer."""
    out = console()
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in result["findings"]:
        key = finding["level"], finding["check"], finding["what"], finding["fix"]
        alike.setdefault(key, []).append(finding["where"])
    for (level, check, what, fix), places in alike.items():
        mark, style = MARKS[level]
        shown = places if verbose else places[:3]
        more = f" and {len(places) - len(shown)} more" if len(places) > len(shown) else ""
        out.print(f"{mark} {check}: {', '.join(shown)}{more}", style=style, markup=False)
        out.print(f"    {what}", markup=False)
        if fix:
            Console(highlight=False, soft_wrap=True).print(f"    → {fix}", markup=False)
    for why in dict.fromkeys(result["skipped"].values()):
        names = ", ".join(name for name, reason in result["skipped"].items() if reason == why)
        out.print(f"· not done, as {why}: {names}", style="dim", markup=False)
    levels = [finding["level"] for finding in result["findings"]]
    told = [
        f"{count} {level}{'s' * (count > 1)}" for level in MARKS if (count := levels.count(level))
    ]
    answer = ", ".join(told).replace("infos", "notes").replace("info", "note") or "nothing found"
    out.print(f"{result['model']}: {answer}", style="bold", markup=False)
