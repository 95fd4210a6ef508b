"""Numbers to text: enough digits to decide on, never more than were measured.

Every function takes None (and what is no finite number) and answers ``MISSING`` for it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

MISSING = "–"
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def number(value: object) -> float | None:
    """``value`` where it is a finite number (a bool is not), otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def significant(value: object, digits: int = 3) -> str:
    """Three significant digits without an exponent: ``0.0452``, ``4.52``, ``24.1``, ``1,523``."""
    found = number(value)
    if found is None:
        return MISSING
    if found == 0:
        return "0"
    if not 1e-4 <= abs(found) < 1e15:
        return f"{found:.{digits}g}"
    rounded = float(f"{found:.{digits}g}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{found:,.{decimals}f}"


def mean_and_deviation(mean: object, deviation: object) -> str:
    """``4.47 ± 0.09``, with the decimals of the mean unless the deviation needs more."""
    known, around = significant(mean), number(deviation)
    if known == MISSING or around is None:
        return known
    decimals = len(known.partition(".")[2])
    rounded = f"{around:,.{decimals}f}"
    return f"{known} ± {rounded if float(rounded.replace(',', '')) else significant(around, 1)}"


def milliseconds(value: object) -> str:
    """``4.52 ms``."""
    return _with_unit(significant(value), "ms")


def rate(value: object) -> str:
    """Calls or records per second: ``221/s``."""
    found = significant(value)
    return found if found == MISSING else f"{found}/s"


def size(value: object) -> str:
    """Bytes in decimal units, as disks and networks count: ``11.7 MB``."""
    found = number(value)
    if found is None:
        return MISSING
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if float(f"{abs(found):.3g}") < 1000:
            break
        found, unit = found / 1000, larger
    return _with_unit(f"{found:.0f}" if unit == "B" else significant(found), unit)


def difference(value: object) -> str:
    """An error between outputs: ``3.1e-06``."""
    found = number(value)
    return MISSING if found is None else f"{found:.2g}"


def quality(value: object, floor: object = None) -> str:
    """``0.997``: three decimals, more where fewer would hide on which side of 1 or the floor."""
    found, decimals = number(value), 3
    if found is None:
        return MISSING
    for mark in (1.0, number(floor)):
        while mark is not None and found != mark and decimals < 6:
            if round(found, decimals) != round(mark, decimals):
                break
            decimals += 1
    return f"{found:.{decimals}f}"


def speedup(value: object, low: object, high: object) -> tuple[str, str]:
    """The ratio and its interval: ``("5.3×", "5.1–5.4")``, both with the same decimals."""
    found, known = number(value), [end for end in map(number, (low, high)) if end is not None]
    if found is None:
        return MISSING, ""
    if high == math.inf and known:
        return f"{found:,.2f}×", f"{known[0]:.3g}–∞"
    decimals = 2 if found < 2 else 1 if found < 100 else 0
    if any(0 < abs(each - 1) < 0.005 for each in (found, *known)):
        decimals = 3
    if len(known) < 2:
        return f"{found:,.{decimals}f}×", ""
    finest = decimals + 2
    while known[0] != known[1] and decimals < finest:
        if f"{known[0]:.{decimals}f}" != f"{known[1]:.{decimals}f}":
            break
        decimals += 1
    return f"{found:,.{decimals}f}×", "–".join(f"{end:,.{decimals}f}" for end in known)


def text(value: object, limit: int = 600) -> str:
    """Any value of the result on one line, cut at ``limit`` characters.

    Control and text-direction characters are written as escapes, so that a hostile name can
    change nothing around it.
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else MISSING
    if isinstance(value, Mapping):
        line = ", ".join(f"{text(key)} {text(each)}" for key, each in value.items()) or MISSING
    elif isinstance(value, Sequence) and not isinstance(value, str):
        line = ", ".join(text(each) for each in value) or MISSING
    else:
        line = "".join(_visible(char) for char in " ".join(str(value).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _with_unit(found: str, unit: str) -> str:
    return found if found == MISSING else f"{found}\u00a0{unit}"


def _visible(char: str) -> str:
    if char in _BIDI or unicodedata.category(char) in {"Cc", "Cs"}:
        return char.encode("unicode_escape").decode("ascii")
    return char
