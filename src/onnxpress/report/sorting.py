"""The one script of a page: tables are sorted by a click on a column's head, or by the keyboard.

The page forbids all others: its content security policy has this one's hash. Without scripts the
tables stand as they were written.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources


@functools.cache
def script() -> str:
    """What stands between ``<script>`` and ``</script>``, to the letter."""
    folder = resources.files("onnxpress.report") / "templates"
    return (folder / "sort.js").read_text(encoding="utf-8")


@functools.cache
def source() -> str:
    """The script in the words of a policy's ``script-src``: CSP level 2, 4.2.5."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
