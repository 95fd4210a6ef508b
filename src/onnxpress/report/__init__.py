"""The report of a ``press`` or ``bench``: one HTML file that opens offline, Markdown and JSON.

All three come from the dict that ``--json`` prints, and the JSON is that dict. Whatever the dict
lacks is shown as missing; nothing is worked out anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxpress.errors import InputError
from onnxpress.report.html import render_html
from onnxpress.report.markdown import render_markdown

__all__ = ["check_suffix", "render", "render_html", "render_json", "render_markdown", "write"]

_FORMATS = {".html": render_html, ".htm": render_html, ".md": render_markdown}


def check_suffix(path: Path) -> None:
    """Raise ``InputError`` where the file's name tells of no format that a report has."""
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"--report {path}", "a file that ends in .html or .md")


def render(result: Mapping[str, object], path: Path) -> str:
    """The report in the format that the file's name tells of. Raises as ``check_suffix``."""
    check_suffix(path)
    return _FORMATS[path.suffix.lower()](result)


def write(result: Mapping[str, object], folder: Path, stem: str = "report") -> tuple[Path, ...]:
    """``stem`` with ``.html``, ``.md`` and ``.json`` in ``folder``, which is made if need be.

    All are rendered and written beside their places before the first is renamed into place, so
    an interrupted write leaves the old report. Raises ``InputError`` where the folder cannot be
    written and ``MissingExtra`` without jinja2.
    """
    if Path(stem).name != stem:
        raise InputError(f"report name '{stem}'", "a name without a folder")
    pages = {
        folder / f"{stem}.html": render_html(result),
        folder / f"{stem}.md": render_markdown(result),
        folder / f"{stem}.json": render_json(result),
    }
    waiting: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, page in pages.items():
            waiting[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            waiting[path].write_text(page, encoding="utf-8", errors="replace", newline="\n")
        for path, temporary in waiting.items():
            temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"report folder {folder}: {reason}", "a folder that can be written"
        ) from error
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
    return tuple(pages)


def render_json(result: Mapping[str, object]) -> str:
    """The dict itself; numbers that JSON does not have (NaN, infinities) become null."""
    return json.dumps(_plain(result), indent=2, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
