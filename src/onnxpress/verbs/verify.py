"""Do two models give the same answers?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from onnxpress.engine import Session
from onnxpress.errors import EngineError, InputError
from onnxpress.signature import Feeds

TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float64": (1e-6, 1e-8),
    "float32": (1e-3, 1e-4),
    "float16": (1e-2, 5e-3),
    "bfloat16": (5e-2, 2e-2),
}
"""dtype → (rtol, atol as a share of the output's ``magnitude``). Other types must be equal."""
ROUNDING: Mapping[str, float] = {"float16": 4e-3, "bfloat16": 3e-2}
"""dtype → four of its units in the last place: nothing less can be told from rounding."""

FILL, FILL_GAP = 1e4, 1e3
"""Equal values of at least this size, so many times larger than all others, stand for nothing."""
APART = {"float32": 1e7, "float64": 1e16}
"""Type → how many times smaller numbers are that leave no trace in a sum with another."""

SHOWN = 3
"""Inputs whose shapes a message tells."""


@dataclass(frozen=True)
class Case:
    """One comparison: the input shapes and the largest difference over all outputs."""

    shapes: Mapping[str, tuple[int, ...]]
    max_abs_diff: float
    ok: bool


@dataclass(frozen=True)
class Mismatch:
    """The first value that differs beyond the tolerance.

    ``why`` tells of shapes that differ; without ``output``, of a model that fails altogether.
    """

    output: str
    index: tuple[int, ...]
    a: float | str
    b: float | str
    shapes: Mapping[str, tuple[int, ...]]
    why: str = ""

    def __str__(self) -> str:
        shapes = told_shapes(self.shapes)
        if not self.output:
            return f"it fails where the original runs, on {shapes} ({self.why})"
        if self.why:
            return f"output '{self.output}' {self.why} on {shapes}"
        return f"output '{self.output}'{list(self.index)} is {self.a} and {self.b} on {shapes}"


def told_shapes(shapes: Mapping[str, Sequence[object]]) -> str:
    """``x[2, 3], y[2]``, or ``x, y [2]`` where all are alike; and how many more past a few."""
    told = {name: f"[{', '.join(map(str, shape))}]" for name, shape in shapes.items()}
    more = len(told) - SHOWN
    rest = f" and {more} more" if more > 0 else ""
    if len(told) > 1 and len(set(told.values())) == 1:
        return f"{', '.join(list(told)[:SHOWN])}{rest} {next(iter(told.values()))}"
    return ", ".join(f"{name}{shape}" for name, shape in list(told.items())[:SHOWN]) + rest


@dataclass(frozen=True)
class Verified:
    """``|a - b| <= atol + rtol·|a|`` for every value; ``atol`` is the largest that was used.

    ``finite`` is the share of ``a``'s floating-point values that are finite: others prove little.
    """

    ok: bool
    rtol: float
    atol: float
    max_abs_diff: float
    max_rel_diff: float
    cases: tuple[Case, ...]
    first_mismatch: Mismatch | None = None
    finite: float = 1.0

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def compare(
    a: Session, b: Session, batches: Iterable[Feeds], rtol: float | None = None
) -> Verified:
    """Run both sessions on the same feeds and compare all outputs of ``a`` with ``b``'s.

    ``rtol`` replaces both tolerances of float types. NaN equals NaN. Raises ``InputError`` where
    the outputs have different names.
    """
    one, two = ({s.name for s in x.signature.outputs} for x in (a, b))
    if one != two:
        told = [
            f"the {which} has {', '.join(sorted(names))}"
            for which, names in (("first", one - two), ("second", two - one))
            if names
        ]
        raise InputError(f"of the outputs only {' and only '.join(told)}", "the same outputs")
    comparison = Comparison(rtol)
    for feeds in batches:
        comparison.add(feeds, a.run(feeds), b)
    return comparison.verified()


class Comparison:
    """Outputs of the first model against runs of the second, batch after batch.

    ``rtol`` replaces both tolerances of float types, down to what rounding makes of half ones.
    """

    def __init__(self, rtol: float | None = None) -> None:
        self._rtol = rtol
        self._cases: list[Case] = []
        self._first: Mismatch | None = None
        self._worst = _Worst()

    def add(self, feeds: Feeds, expected: Feeds, b: Session) -> None:
        """Run ``b`` on ``feeds``, for which the first model answered ``expected``."""
        shapes = {name: tuple(np.shape(array)) for name, array in feeds.items()}
        try:
            found = b.run(feeds)
        except EngineError as error:
            self._cases.append(Case(shapes, math.inf, ok=False))
            self._worst.absolute = self._worst.relative = math.inf
            self._first = self._first or Mismatch("", (), "", "", shapes, f"{error}")
            return
        differences = []
        mismatch: Mismatch | None = None
        for name, array in expected.items():
            difference, wrong = _compare(name, array, found[name], shapes, self._rtol, self._worst)
            differences.append(difference)
            mismatch = mismatch or wrong
        self._cases.append(Case(shapes, max(differences, default=0.0), mismatch is None))
        self._first = self._first or mismatch

    def verified(self) -> Verified:
        """The answer. Raises ``InputError`` where nothing was added."""
        if not self._cases:
            raise InputError("there is nothing to compare on", "at least one sample")
        first, worst = self._first, self._worst
        return Verified(
            first is None, worst.rtol, worst.atol, worst.absolute, worst.relative,
            tuple(self._cases), first, worst.finite / worst.floats if worst.floats else 1.0,
        )  # fmt: skip


@dataclass
class _Worst:
    rtol: float = 0.0
    atol: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    finite: int = 0
    floats: int = 0


def _compare(
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    shapes: Mapping[str, tuple[int, ...]],
    rtol: float | None,
    worst: _Worst,
) -> tuple[float, Mismatch | None]:
    if a.shape != b.shape:
        why = f"has the shapes {list(a.shape)} and {list(b.shape)}"
        return float("inf"), Mismatch(name, (), "", "", shapes, why)
    if a.size == 0:
        return 0.0, None
    if a.dtype.name not in TOLERANCES or a.dtype != b.dtype:
        wrong = a != b
        difference = np.zeros(a.shape)
        if a.dtype.kind in "iub" and b.dtype.kind in "iub":
            difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    else:
        relative, share = TOLERANCES[a.dtype.name]
        if rtol is not None:
            relative = share = max(rtol, ROUNDING.get(a.dtype.name, 0.0))
        left, right = a.astype(np.float64), b.astype(np.float64)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(left - right))
        finite = np.abs(left[np.isfinite(left)])
        scale = magnitude(finite, APART.get(a.dtype.name, math.inf))
        worst.finite, worst.floats = worst.finite + finite.size, worst.floats + left.size
        atol = share * scale
        wrong = ~(difference <= atol + relative * np.nan_to_num(np.abs(left), posinf=0.0))
        worst.rtol, worst.atol = max(worst.rtol, relative), max(worst.atol, atol)
        worst.relative = max(
            worst.relative, _ratio(float(np.nan_to_num(difference, nan=np.inf).max()), scale)
        )
    largest = float(np.nan_to_num(difference, nan=np.inf).max())
    worst.absolute = max(worst.absolute, largest)
    if not np.any(wrong):
        return largest, None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return largest, Mismatch(name, index, _plain(a[index]), _plain(b[index]), shapes)


def magnitude(values: np.ndarray, apart: float) -> float:
    """The largest of ``values``, which are not negative; those that stand for nothing left out.

    Masked logits of -1e9 or the lowest float would hide any difference of the others. A lone
    value goes where it is ``apart`` times as large as all others.
    """
    largest = float(values.max(initial=0.0))
    if largest < FILL:
        return largest
    rest, top = np.sort(values, axis=None), largest
    while rest.size and rest[-1] > 0:
        top = float(rest[-1])
        below = rest[: np.searchsorted(rest, top * (1 - 1e-6))]
        following = float(below[-1]) if below.size else 0.0
        fills = rest.size - below.size > 1 and top >= max(FILL, following * FILL_GAP)
        if following == 0 or not (fills or top >= following * apart):
            break
        rest = below
    return top


def _ratio(difference: float, scale: float) -> float:
    if difference == 0:
        return 0.0
    return difference / scale if scale else float("inf")


def _plain(value: object) -> float | str:
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]  # a NumPy scalar
